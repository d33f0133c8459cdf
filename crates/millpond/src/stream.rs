//! What blocks tell each other about a stream beyond its item type and shape: the text in [`StreamFormat::description`].

use millpond_shm::StreamFormat;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};

/// The description of a stream; everything in it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Names of the columns, which are the last dimension of the shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// How a file stores, or stored, the samples: `i16`, `i24`. Integers of a file travel as `f32` from -1 to 1 where that is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<String>,
}

impl Description {
    /// Reads the description of a stream. Text that is no description tells nothing.
    pub fn of(format: &StreamFormat) -> Self {
        toml::from_str(&format.description).unwrap_or_default()
    }

    /// The text for [`StreamFormat::description`].
    ///
    /// # Errors
    /// If it is too long to be stored with the stream.
    pub fn to_text(&self) -> Result<String> {
        let text = toml::to_string(self).context(|| "describe the stream")?;
        let (length, limit) = (text.len(), millpond_shm::layout::MAX_DESCRIPTION_BYTES);
        if length > limit {
            let problem = format!(
                "the description takes {length} bytes, of which a stream has {limit}: use fewer or shorter names"
            );
            return Err(problem).context(|| "describe the stream");
        }
        Ok(text)
    }

    /// Names for `count` columns: the stream's own, or `0`, `1` and so on if it does not name that many.
    pub fn column_names(&self, count: usize) -> Vec<String> {
        if self.columns.len() == count {
            self.columns.clone()
        } else {
            (0..count).map(|i| i.to_string()).collect()
        }
    }
}

/// The number of columns of a stream: the last extent of its shape, or 1.
pub fn columns(format: &StreamFormat) -> usize {
    format.shape.last().map_or(1, |extent| *extent as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(description: &str) -> StreamFormat {
        StreamFormat { description: description.to_owned(), ..StreamFormat::default() }
    }

    #[test]
    fn descriptions_are_read_back() {
        let description =
            Description { columns: vec!["a \"b\"".into(), "c,d".into()], stored_as: Some("i24".into()) };
        assert_eq!(Description::of(&format(&description.to_text().unwrap())), description);
        assert_eq!(Description::of(&format("")), Description::default());
        assert_eq!(Description::of(&format("} not toml")), Description::default());
    }

    #[test]
    fn too_many_names_are_refused() {
        let description = Description { columns: vec!["x".repeat(40); 12], stored_as: None };
        let refusal = description.to_text().expect_err("refused").to_string();
        assert!(refusal.contains("use fewer or shorter names"), "{refusal}");
    }
}
