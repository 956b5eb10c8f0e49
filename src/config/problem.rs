//! What is wrong with a configuration: every problem at once, each with its place and its remedy.

use std::cell::RefCell;
use std::fmt;

/// One thing to correct.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where: a key path such as `wabas[1].access_token_file`, or the name of an environment variable.
    pub key: String,
    /// What stands there, where showing it is harmless.
    pub value: Option<String>,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?}: {}", self.key, self.text),
            None => write!(f, "{}: {}", self.key, self.text),
        }
    }
}

/// Everything that is wrong, in the order in which it was found. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration has a problem:\n  {one}"),
            all => {
                write!(f, "the configuration has {} problems:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// Gathers problems while reading goes on; whoever reports one carries on with a stand-in value.
#[derive(Debug, Default)]
pub(super) struct Collector(RefCell<Vec<Problem>>);

impl Collector {
    /// Notes a problem whose value must not, or need not, be shown.
    pub(super) fn report(&self, key: impl Into<String>, text: impl Into<String>) {
        self.push(Problem { key: key.into(), value: None, text: text.into() });
    }

    /// Notes a problem with its value.
    pub(super) fn report_value(
        &self,
        key: impl Into<String>,
        value: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.push(Problem { key: key.into(), value: Some(value.into()), text: text.into() });
    }

    /// The value if nothing was reported, else everything that was.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Problems> {
        let problems = self.0.into_inner();
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }

    /// Everything that was reported, when it is no use to go on.
    pub(super) fn into_problems(self) -> Problems {
        Problems(self.0.into_inner())
    }

    /// How many were reported so far.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }
}
