//! Finding a call in a table of calls: by its path, a template in which `{…}` stands for one segment, and by its method. What a
//! call is, and who may make it, its table says.

use hyper::Method;

/// A call as it is found.
pub trait Listed: 'static {
    /// Whether a call with `GET` answers `HEAD` as well.
    const HEAD: bool;

    /// Its method, as HTTP writes it.
    fn method(&self) -> &str;

    /// Its path, with `{…}` where anything may stand.
    fn path(&self) -> &str;
}

/// What a table says of a request.
#[derive(Debug)]
pub enum Found<C: 'static> {
    /// The call, and what stands in the places of its path.
    Call(&'static C, Vec<String>),
    /// The path is there, with these methods.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

/// Looks a request up. A path without parameters goes before one with them, and is then another resource: the methods of
/// the one are not those of the other.
pub fn find<C: Listed>(calls: impl Iterator<Item = &'static C> + Clone, method: &Method, path: &str) -> Found<C> {
    let fitting = || calls.clone().filter_map(|call| Some((call, parameters(call.path(), path)?)));
    let Some(fewest) = fitting().map(|(_, parameters)| parameters.len()).min() else { return Found::Nothing };
    let mut others: Vec<&str> = Vec::new();
    for (call, parameters) in fitting().filter(|(_, parameters)| parameters.len() == fewest) {
        let head = C::HEAD && call.method() == "GET" && method == Method::HEAD;
        if call.method() == method.as_str() || head {
            return Found::Call(call, parameters);
        }
        others.push(call.method());
    }
    if C::HEAD && others.contains(&"GET") {
        others.push("HEAD");
    }
    Found::OtherMethods(others.join(", "))
}

/// What stands in the places of the template's `{…}`, when the path fits it.
#[must_use]
pub fn parameters(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut found, mut given) = (Vec::new(), path.split('/'));
    for expected in template.split('/') {
        let segment = given.next()?;
        if expected.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            found.push(segment.to_owned());
        } else if expected != segment {
            return None;
        }
    }
    given.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One<const HEAD: bool>(&'static str, &'static str);

    impl<const HEAD: bool> Listed for One<HEAD> {
        const HEAD: bool = HEAD;
        fn method(&self) -> &str {
            self.0
        }
        fn path(&self) -> &str {
            self.1
        }
    }

    static WITH: &[One<true>] = &[One("GET", "/a/{id}"), One("PUT", "/a/{id}"), One("POST", "/a/look"), One("GET", "/a/{id}/b/{n}")];
    static WITHOUT: &[One<false>] = &[One("GET", "/a/{id}")];

    fn told<C: Listed>(found: Found<C>) -> String {
        match found {
            Found::Call(call, parameters) => format!("{} {} {}", call.method(), call.path(), parameters.join(",")),
            Found::OtherMethods(allow) => format!("only {allow}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_path_without_parameters_goes_before_one_with_them() {
        let found = |method: Method, path: &str| told(find(WITH.iter(), &method, path));
        assert_eq!(found(Method::GET, "/a/x"), "GET /a/{id} x");
        assert_eq!(found(Method::GET, "/a/x/b/2"), "GET /a/{id}/b/{n} x,2");
        assert_eq!(found(Method::GET, "/a/look"), "only POST");
        assert_eq!(found(Method::DELETE, "/a/x"), "only GET, PUT, HEAD");
        for unknown in ["/a", "/a/", "/a/x/", "/a/x/b", "a/x", ""] {
            assert_eq!(found(Method::GET, unknown), "nothing", "{unknown}");
        }
    }

    #[test]
    fn head_is_answered_where_the_table_says_so() {
        assert_eq!(told(find(WITH.iter(), &Method::HEAD, "/a/x")), "GET /a/{id} x");
        assert_eq!(told(find(WITHOUT.iter(), &Method::HEAD, "/a/x")), "only GET");
    }
}
