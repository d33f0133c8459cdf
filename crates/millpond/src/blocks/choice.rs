//! One of several ports, chosen by a parameter that can change while the block runs.

use crate::error::{Error, Result};

/// Which of the names is chosen, if any.
pub(super) struct Choice {
    names: Vec<String>,
    /// What the names stand for.
    what: &'static str,
    chosen: Option<usize>,
}

impl Choice {
    /// # Errors
    /// If the name is none of `names`.
    pub(super) fn new(names: Vec<String>, what: &'static str, name: Option<String>) -> Result<Self> {
        let mut choice = Self { names, what, chosen: None };
        choice.chosen = choice.find(name.as_deref())?;
        Ok(choice)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn chosen(&self) -> Option<usize> {
        self.chosen
    }

    /// Another value of the parameter, while the block runs.
    ///
    /// # Errors
    /// If it is no name; what was chosen stays.
    pub(super) fn set(&mut self, name: Option<String>) -> Result<()> {
        self.chosen = self.find(name.as_deref())?;
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
