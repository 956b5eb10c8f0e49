//! A neutral tree of values, for content that keeps Meta's field names from one edge to the other.
//!
//! Our contract mirrors the Cloud API by decision, so a message's content needs no third definition between
//! the two edges: `contract` reads it out of our protobuf by name, `cloud_api` writes it into Meta's JSON.

/// One value. Maps keep the order of their fields.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// A text.
    String(String),
    /// Values in order.
    List(Vec<Value>),
    /// Named values in order.
    Map(Vec<(String, Value)>),
}

impl std::fmt::Debug for Value {
    /// Shape and names; what people write stays out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Integer(_) | Self::Number(_) => f.write_str("number"),
            Self::String(text) => write!(f, "text of {} bytes", text.len()),
            Self::List(values) => f.debug_list().entries(values).finish(),
            Self::Map(fields) => {
                f.debug_map().entries(fields.iter().map(|(name, value)| (name, value))).finish()
            }
        }
    }
}

impl Value {
    /// The field `name` of a map; `None` for everything else.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_map()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The fields of a map.
    pub fn as_map(&self) -> Option<&[(String, Value)]> {
        if let Value::Map(fields) = self { Some(fields) } else { None }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}
