//! One JSON object, read field by field. A field that is `null` is absent; one of another type is an error that names the file, the object and the
//! field, and nothing of its value: there may be a key in it.
//!
//! Names are compared without regard to case, because the command line's versions differ in it (`peerASN`, `peerAsn`), and a field is looked for
//! inside `properties` as well, where the REST answer has it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{ImportError, said::clean};

/// An object of a file.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    file: &'a str,
    what: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The fields of a value of this kind, which has to be an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(file: &'a str, what: &'static str, value: &'a Value) -> Result<Fields<'a>, ImportError> {
        match value {
            Value::Object(map) => Ok(Fields { file, what, map }),
            _ => Err(ImportError::Field {
                file: file.to_owned(),
                what,
                field: "an entry".to_owned(),
                expected: "an object",
            }),
        }
    }

    /// A field's value; `None`: it is absent or `null`.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        let find = |map: &'a Map<String, Value>| {
            map.iter()
                .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())
                .map(|(_, value)| value)
        };
        find(self.map).or_else(|| find(self.map.get("properties")?.as_object()?))
    }

    /// Whether there is such a field, `null` or not.
    pub fn has(&self, name: &str) -> bool {
        let has = |map: &Map<String, Value>| map.keys().any(|key| key.eq_ignore_ascii_case(name));
        has(self.map) || self.map.get("properties").and_then(Value::as_object).is_some_and(has)
    }

    /// The error about a field.
    pub fn wrong(&self, name: &str, expected: &'static str) -> ImportError {
        ImportError::Field { file: self.file.to_owned(), what: self.what, field: name.to_owned(), expected }
    }

    /// A field without which the object says nothing.
    ///
    /// # Errors
    /// When it is `None`.
    pub fn needed<T>(&self, name: &'static str, value: Option<T>) -> Result<T, ImportError> {
        value.ok_or_else(|| ImportError::Missing { file: self.file.to_owned(), what: self.what, field: name })
    }

    /// A text as the file has it, to be looked at and never to be printed; an empty one is absent.
    ///
    /// # Errors
    /// When it is no text.
    pub fn raw(&self, name: &str) -> Result<Option<&'a str>, ImportError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    /// A text that can be printed.
    ///
    /// # Errors
    /// When it is no text.
    pub fn text(&self, name: &str) -> Result<Option<String>, ImportError> {
        Ok(self.raw(name)?.map(clean))
    }

    /// A whole number that its type can hold.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>, ImportError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.wrong(name, "a whole number in its range"))
    }

    /// A rate in Gb/s, as megabits a second: Azure has it with a fraction.
    ///
    /// # Errors
    /// When it is no number, or none that a circuit or a port has.
    pub fn gbps(&self, name: &str) -> Result<Option<u64>, ImportError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let mbps = value.as_f64().map(|gbps| (gbps * 1_000.0).round()).filter(|it| (0.0..=1e9).contains(it));
        // In the range of a u64, by the line above.
        mbps.map(|mbps| Some(mbps as u64)).ok_or_else(|| self.wrong(name, "a rate in Gb/s"))
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ImportError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A prefix, without host bits.
    ///
    /// # Errors
    /// When it is none.
    pub fn prefix(&self, name: &str) -> Result<Option<IpNet>, ImportError> {
        let parse = |text: &str| prefix(text).ok_or_else(|| self.wrong(name, "a prefix"));
        self.raw(name)?.map(parse).transpose()
    }

    /// The address of a host.
    ///
    /// # Errors
    /// When it is none.
    pub fn address(&self, name: &str) -> Result<Option<IpAddr>, ImportError> {
        let parse = |text: &str| text.parse().map_err(|_| self.wrong(name, "an IP address"));
        self.raw(name)?.map(parse).transpose()
    }

    /// A list; empty if it is absent.
    ///
    /// # Errors
    /// When it is no list.
    pub fn list(&self, name: &str) -> Result<&'a [Value], ImportError> {
        match self.value(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    /// The prefixes of a list of texts.
    ///
    /// # Errors
    /// When it is no list of prefixes.
    pub fn prefixes(&self, name: &str) -> Result<Vec<IpNet>, ImportError> {
        let parse = |value: &Value| {
            value.as_str().and_then(prefix).ok_or_else(|| self.wrong(name, "a list of prefixes"))
        };
        self.list(name)?.iter().map(parse).collect()
    }

    /// An object inside this one.
    ///
    /// # Errors
    /// When it is no object.
    pub fn object(&self, name: &str, what: &'static str) -> Result<Option<Fields<'a>>, ImportError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { file: self.file, what, map })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// The objects of a list inside this one.
    ///
    /// # Errors
    /// When it is no list of objects.
    pub fn objects(&self, name: &str, what: &'static str) -> Result<Vec<Fields<'a>>, ImportError> {
        self.list(name)?.iter().map(|value| Fields::of(self.file, what, value)).collect()
    }

    /// The name behind a word in a path of Azure's: `contoso` of `.../expressRouteCircuits/contoso/peerings/...`.
    ///
    /// # Errors
    /// When the field is no text.
    pub fn named_in(&self, field: &str, word: &str) -> Result<Option<String>, ImportError> {
        let Some(path) = self.raw(field)? else { return Ok(None) };
        let mut parts = path.split('/').skip_while(|part| !part.eq_ignore_ascii_case(word)).skip(1);
        Ok(parts.next().filter(|name| !name.is_empty()).map(clean))
    }
}

/// A prefix; an address alone is one of its full length.
pub fn prefix(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(net.trunc())
}
