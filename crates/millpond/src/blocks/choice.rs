//! One of several ports, chosen by a parameter that can change while the block runs.

use crate::error::{Error, Result};

/// Which of the names is chosen, if any.
pub(super) struct Choice {
    names: Vec<String>,
    /// What the names stand for.
    what: &'static str,
    chosen: Option<usize>,
    /// The parameter's value that was looked at last.
    seen: Option<String>,
}

impl Choice {
    /// # Errors
    /// If the name is none of `names`.
    pub(super) fn new(names: Vec<String>, what: &'static str, name: Option<String>) -> Result<Self> {
        let mut choice = Self { names, what, chosen: None, seen: None };
        choice.chosen = choice.find(name.as_deref())?;
        choice.seen = name;
        Ok(choice)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn chosen(&self) -> Option<usize> {
        self.chosen
    }

    /// Follows the parameter. Somebody may mistype while the stream runs: that is no reason to end it, and what was chosen stays.
    ///
    /// # Errors
    /// Once for each value that is no name, what to tell about it.
    pub(super) fn follow(&mut self, name: Option<String>) -> Result<(), String> {
        if name == self.seen {
            return Ok(());
        }
        let found = self.find(name.as_deref());
        self.seen = name;
        self.chosen = found.map_err(|error| format!("{error}; what was selected before stays"))?;
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Result<Option<usize>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.names.iter().position(|known| known == name).ok_or_else(|| {
            let (what, names) = (self.what, self.names.join(", "));
            Error::Refused(format!("`select`: expected the name of an {what} ({names}), found `{name}`"))
        });
        found.map(Some)
    }
}
