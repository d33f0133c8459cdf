//! The values of one block's parameters.

use crate::error::{Error, Result};
use crate::param::{FromValue, Param, Presence, Value, find};
use crate::spec::Spec;

/// The values of one block's parameters, complete and checked.
#[derive(Clone, Debug)]
pub struct Params {
    values: Vec<(String, Value)>,
}

impl Params {
    /// Completes the values given with the defaults and checks them all.
    ///
    /// # Errors
    /// The first of [`Error::UnknownParameter`], [`Error::BadParameter`] and [`Error::MissingParameter`].
    pub fn new(spec: &Spec, given: impl IntoIterator<Item = (String, Value)>) -> Result<Self> {
        let mut values = Vec::new();
        for (name, value) in given {
            let param = find(spec, &name)?;
            values.push((name, param.check(value)?));
        }
        Self { values }.complete(spec)
    }

    /// Like [`new`](Params::new), with values as a command line gives them.
    ///
    /// # Errors
    /// As [`new`](Params::new).
    pub fn parse<'a>(spec: &Spec, given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let parsed =
            given.into_iter().map(|(name, text)| Ok((name.to_owned(), find(spec, name)?.parse(text)?)));
        Self { values: parsed.collect::<Result<_>>()? }.complete(spec)
    }

    fn complete(mut self, spec: &Spec) -> Result<Self> {
        for param in &spec.params {
            if self.values.iter().any(|(name, _)| *name == param.name) {
                continue;
            }
            match &param.presence {
                Presence::Default(value) => self.values.push((param.name.clone(), value.clone())),
                Presence::Optional => {}
                Presence::Required => {
                    let (block_type, name, doc) = (spec.name.clone(), param.name.clone(), param.doc.clone());
                    return Err(Error::MissingParameter { block_type, name, doc });
                }
            }
        }
        for param in &spec.params {
            if let Some(value) = self.value(&param.name) {
                self.check_count(param, value)?;
            }
        }
        Ok(self)
    }

    /// Numbers that are for the names of another parameter must be as many as those, or one.
    ///
    /// # Errors
    /// [`Error::BadParameter`] if they are not.
    pub(crate) fn check_count(&self, param: &Param, value: &Value) -> Result<()> {
        let Some((names_param, Value::Numbers(numbers))) = param.for_each.as_deref().zip(Some(value)) else {
            return Ok(());
        };
        match self.value(names_param) {
            Some(Value::Names(names)) if numbers.len() > 1 && numbers.len() != names.len() => {
                Err(Error::BadParameter {
                    name: param.name.clone(),
                    expected: match names.len() {
                        1 => format!("1 number, as `{names_param}` has 1 name"),
                        names => format!("1 number or {names}, one for each of `{names_param}`"),
                    },
                    found: numbers.len().to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a parameter.
    ///
    /// # Panics
    /// If the block's spec states no such parameter, or one whose kind, range or presence does not fit `T`.
    pub fn get<T: FromValue>(&self, name: &str) -> T {
        let value = self.value(name);
        T::from_value(value).unwrap_or_else(|| {
            panic!(
                "parameter `{name}` ({value:?}) is no {}: see the block's spec",
                std::any::type_name::<T>()
            )
        })
    }

    /// The value of a parameter as text, as [`Param::parse`] takes it; `None`: an optional one that was not given.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(ToString::to_string)
    }

    /// Puts a checked value in place of the present one.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        match self.values.iter_mut().find(|(known, _)| known == name) {
            Some((_, present)) => *present = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// Has of one parameter what `others` have.
    pub(crate) fn take_over(&mut self, name: &str, others: &Params) {
        self.values.retain(|(known, _)| known != name);
        self.values.extend(others.values.iter().find(|(known, _)| known == name).cloned());
    }

    /// Names and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec::new("probe", "A block with one parameter of each kind")
            .param(Param::float("rate_hz", "how often").range(0.1, 1000.0).unit("Hz").default(10.0))
            .param(Param::int("count", "how many").range(0.0, f64::INFINITY).optional())
            .param(Param::text("path", "the file"))
            .param(Param::names("inputs", "the ports").default(vec!["a".to_owned()]))
            .param(Param::bool("loud", "whether to shout").default(false))
            .param(Param::one_of("colour", "what it looks like", &["red", "blue"]).default("red"))
            .param(Param::numbers("taps", "the weights").range(-1.0, 1.0).optional())
    }

    fn refusal(given: &[(&str, &str)]) -> String {
        Params::parse(&spec(), given.iter().copied()).expect_err("refused").to_string()
    }

    #[test]
    fn values_are_read_with_their_defaults() {
        let params = Params::parse(&spec(), [("path", "x.csv"), ("count", "7"), ("inputs", "a, b")]).unwrap();
        assert_eq!(params.get::<f64>("rate_hz"), 10.0);
        assert_eq!(params.get::<Option<u64>>("count"), Some(7));
        assert_eq!(params.get::<String>("path"), "x.csv");
        assert_eq!(params.get::<Vec<String>>("inputs"), ["a", "b"]);
        assert!(!params.get::<bool>("loud"));
        assert_eq!(params.get::<String>("colour"), "red");
        assert_eq!(params.get::<Option<Vec<f64>>>("taps"), None);
    }

    #[test]
    fn lists_of_numbers_survive_a_command_line() {
        let param = Param::numbers("taps", "the weights");
        let value = Value::Numbers(vec![0.1, -1e-300, 3.0]);
        assert_eq!(param.parse(&value.to_string()).unwrap(), value);
        assert_eq!(param.check(Value::Int(2)).unwrap(), Value::Numbers(vec![2.0]));
    }

    #[test]
    fn whole_numbers_serve_as_numbers() {
        let given = [("path".to_owned(), "p".into()), ("rate_hz".to_owned(), Value::Int(5))];
        assert_eq!(Params::new(&spec(), given).unwrap().get::<f64>("rate_hz"), 5.0);
    }

    #[test]
    fn refusals_say_what_was_expected_and_found() {
        assert_eq!(refusal(&[("rat_hz", "1")]), "`probe` has no parameter `rat_hz`, did you mean `rate_hz`?");
        assert_eq!(refusal(&[]), "`probe` needs the parameter `path`: the file");
        assert_eq!(
            refusal(&[("rate_hz", "0")]),
            "parameter `rate_hz`: expected a number from 0.1 to 1000 (Hz), found 0"
        );
        assert_eq!(
            refusal(&[("rate_hz", "fast")]),
            "parameter `rate_hz`: expected a number from 0.1 to 1000 (Hz), found `fast`"
        );
        assert_eq!(
            refusal(&[("count", "-1")]),
            "parameter `count`: expected a whole number of at least 0, found -1"
        );
        assert_eq!(refusal(&[("loud", "yes")]), "parameter `loud`: expected true or false, found `yes`");
        assert_eq!(
            refusal(&[("colour", "grey")]),
            "parameter `colour`: expected one of: red, blue, found grey"
        );
        assert_eq!(
            refusal(&[("taps", "0.5,2")]),
            "parameter `taps`: expected a list of numbers from -1 to 1, found 0.5,2"
        );
        assert!(refusal(&[("taps", "0.5,,2")]).ends_with("found `0.5,,2`"));
        for names in ["", "a,a", "a.b", "a,,b"] {
            assert!(refusal(&[("inputs", names)]).contains("a list of different names"), "{names}");
        }
    }

    #[test]
    #[should_panic(expected = "parameter `rate_hz` (Some(Float(10.0))) is no u32")]
    fn reading_as_the_wrong_type_is_a_bug_of_the_block() {
        let params = Params::parse(&spec(), [("path", "p")]).unwrap();
        let _: u32 = params.get("rate_hz");
    }
}
