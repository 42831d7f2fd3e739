//! Reading a model from JSON, with the path of whatever is wrong. Every member is known or refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Access, Argument, Attribute, CHOICES_MAX, Command, LENGTH_DEFAULT, LENGTH_MAX, MEMBERS_MAX, MODEL_MAX, Model, Shape, Violation, whole,
};
use crate::domain::ids::{self, ModelName};

/// The longest title, in characters.
const TITLE_MAX: usize = 64;
/// The longest unit, in characters.
const UNIT_MAX: usize = 16;

impl Model {
    /// Reads the JSON text of a model.
    ///
    /// # Errors
    /// A [`Violation`]; for text that is no JSON, with line and column and an empty path.
    pub fn parse(json: &str) -> Result<Self, Violation> {
        if json.len() > MODEL_MAX {
            return Err(Violation::at("", "larger than 64 KiB"));
        }
        let value: Value = serde_json::from_str(json).map_err(|e| Violation::at("", format!("not JSON: {e}")))?;
        Self::from_json(&value)
    }

    /// Reads a model.
    ///
    /// # Errors
    /// A [`Violation`] with the path of the first member that is missing, unknown or wrong.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let mut members = Members::new(String::new(), value)?;
        let name = members.text("model")?.ok_or_else(|| members.missing("model"))?;
        let name = ModelName::parse(&name).map_err(|e| Violation::at("model", e.to_string()))?;
        let title = members.title()?.ok_or_else(|| members.missing("title"))?;
        let version = members.integer("version")?.ok_or_else(|| members.missing("version"))?;
        let version =
            u32::try_from(version).ok().filter(|v| *v > 0).ok_or_else(|| Violation::at("version", "is not between 1 and 4294967295"))?;
        let kind = members.text("kind")?.ok_or_else(|| members.missing("kind"))?;
        ModelName::parse(&kind).map_err(|e| Violation::at("kind", e.to_string().replace("model name", "kind")))?;
        let attributes = members.children("attributes", MEMBERS_MAX, attribute)?;
        let commands = members.children("commands", MEMBERS_MAX, command)?;
        members.finish()?;
        Ok(Self { name, title, version, kind, attributes, commands })
    }
}

fn attribute(mut members: Members<'_>) -> Result<Attribute, Violation> {
    let shape = shape(&mut members)?;
    let title = members.title()?;
    let access = match members.text("access")?.as_deref() {
        Some("read") => Access::Read,
        Some("write") => Access::Write,
        Some(_) => return Err(members.wrong("access", "is not read or write")),
        None => return Err(members.missing("access")),
    };
    let critical = members.flag("critical")?;
    members.finish()?;
    Ok(Attribute { title, shape, access, critical })
}

fn command(mut members: Members<'_>) -> Result<Command, Violation> {
    let title = members.title()?;
    let critical = members.flag("critical")?;
    let args = members.children("args", CHOICES_MAX, argument)?;
    members.finish()?;
    Ok(Command { title, critical, args })
}

fn argument(mut members: Members<'_>) -> Result<Argument, Violation> {
    let shape = shape(&mut members)?;
    let title = members.title()?;
    let optional = members.flag("optional")?;
    members.finish()?;
    Ok(Argument { title, shape, optional })
}

fn shape(members: &mut Members<'_>) -> Result<Shape, Violation> {
    match members.text("type")?.as_deref() {
        Some("boolean") => Ok(Shape::Boolean),
        Some("integer") => {
            let unit = members.unit()?;
            let (min, max, step) = (members.integer("min")?, members.integer("max")?, members.integer("step")?);
            members.check_range(min, max, step, 0)?;
            Ok(Shape::Integer { unit, min, max, step })
        }
        Some("number") => {
            let unit = members.unit()?;
            let (min, max, step) = (members.number("min")?, members.number("max")?, members.number("step")?);
            members.check_range(min, max, step, 0.0)?;
            Ok(Shape::Number { unit, min, max, step })
        }
        Some("string") => match (members.values()?, members.integer("max_length")?) {
            (Some(_), Some(_)) => Err(members.wrong("max_length", "has no use beside values")),
            (Some(values), None) => Ok(Shape::OneOf(values)),
            (None, Some(max)) => {
                let max = usize::try_from(max).ok().filter(|max| (1..=LENGTH_MAX).contains(max));
                max.map(Shape::Text).ok_or_else(|| members.wrong("max_length", "is not between 1 and 4096"))
            }
            (None, None) => Ok(Shape::Text(LENGTH_DEFAULT)),
        },
        Some(_) => Err(members.wrong("type", "is not boolean, integer, number or string")),
        None => Err(members.missing("type")),
    }
}

/// One object, read member by member; [`Members::finish`] refuses what nobody asked for.
struct Members<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Members<'a> {
    fn new(path: String, value: &'a Value) -> Result<Self, Violation> {
        match value {
            Value::Object(map) => Ok(Self { path, map, known: Vec::new() }),
            _ => Err(Violation::at(path, "is not an object")),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.map.get(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Violation> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| self.wrong(name, "is not a string"))
    }

    /// A text for people: not empty, printable, short.
    fn words(&mut self, name: &'static str, max: usize) -> Result<Option<String>, Violation> {
        let text = self.text(name)?;
        if text.as_ref().is_some_and(|t| t.trim().is_empty() || t.chars().any(char::is_control) || t.chars().count() > max) {
            return Err(self.wrong(name, &format!("is not 1 to {max} printable characters")));
        }
        Ok(text)
    }

    fn title(&mut self) -> Result<Option<String>, Violation> {
        self.words("title", TITLE_MAX)
    }

    fn unit(&mut self) -> Result<Option<String>, Violation> {
        self.words("unit", UNIT_MAX)
    }

    fn integer(&mut self, name: &'static str) -> Result<Option<i64>, Violation> {
        let Some(value) = self.take(name) else { return Ok(None) };
        whole(value).map(Some).ok_or_else(|| self.wrong(name, "is not an integer"))
    }

    fn number(&mut self, name: &'static str) -> Result<Option<f64>, Violation> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_f64().filter(|n| n.is_finite()).map(Some).ok_or_else(|| self.wrong(name, "is not a number"))
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, Violation> {
        let Some(value) = self.take(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(name, "is not true or false"))
    }

    fn values(&mut self) -> Result<Option<Vec<String>>, Violation> {
        let Some(value) = self.take("values") else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| self.wrong("values", "is not a list"))?;
        if items.is_empty() || items.len() > CHOICES_MAX {
            return Err(self.wrong("values", "does not hold 1 to 64 strings"));
        }
        let mut values: Vec<String> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = || format!("{}.{at}", self.inner("values"));
            let text = item.as_str().ok_or_else(|| Violation::at(path(), "is not a string"))?;
            if text.is_empty() || text.chars().count() > TITLE_MAX {
                return Err(Violation::at(path(), "is not 1 to 64 characters"));
            }
            if values.iter().any(|known| known == text) {
                return Err(Violation::at(path(), format!("{text:?} stands here twice")));
            }
            values.push(text.to_owned());
        }
        Ok(Some(values))
    }

    fn children<T>(
        &mut self,
        name: &'static str,
        max: usize,
        read: fn(Members<'_>) -> Result<T, Violation>,
    ) -> Result<BTreeMap<String, T>, Violation> {
        let path = self.inner(name);
        let Some(value) = self.take(name) else { return Ok(BTreeMap::new()) };
        let map = value.as_object().ok_or_else(|| self.wrong(name, "is not an object"))?;
        if map.len() > max {
            return Err(self.wrong(name, &format!("holds more than {max}")));
        }
        map.iter()
            .map(|(child, value)| {
                let path = format!("{path}.{child}");
                ids::check(child, "name", "a-z 0-9 _", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                    .map_err(|e| Violation::at(path.clone(), e.to_string()))?;
                Ok((child.clone(), read(Members::new(path, value)?)?))
            })
            .collect()
    }

    fn check_range<N: PartialOrd>(&self, min: Option<N>, max: Option<N>, step: Option<N>, zero: N) -> Result<(), Violation> {
        if matches!((&min, &max), (Some(min), Some(max)) if min > max) {
            return Err(self.wrong("max", "is below min"));
        }
        if step.is_some_and(|step| step <= zero) {
            return Err(self.wrong("step", "is not above 0"));
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Violation> {
        match self.map.keys().find(|name| !self.known.contains(&name.as_str())) {
            Some(name) => Err(Violation::at(self.inner(name), "is not known here")),
            None => Ok(()),
        }
    }

    fn missing(&self, name: &str) -> Violation {
        self.wrong(name, "is missing")
    }

    fn wrong(&self, name: &str, reason: &str) -> Violation {
        Violation::at(self.inner(name), reason)
    }

    fn inner(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}
