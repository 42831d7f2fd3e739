//! Reads a Rust source as far as the law needs it: its names and the paths they form.
//!
//! Not a parser: comments, texts and characters are told from code, braces of modules from
//! others, and trees of paths are unfolded. What is lawful is left to the root of this binary.

/// A path in a source, with `super` resolved where it climbs to the root.
pub(super) struct Found {
    pub(super) segments: Vec<String>,
    /// Stands in an import (`use`, `extern crate`), so that one name alone is a path as well.
    pub(super) renames: bool,
}

/// All paths of a source whose module lies `depth` below the root.
pub(super) fn paths(tokens: &[String], depth: usize) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    // For each open brace, whether it opened a module.
    let mut braces = Vec::new();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    while at < tokens.len() {
        let before = if at == 0 { "" } else { token(at - 1) };
        match token(at) {
            "{" if before != "use" => {
                braces.push(at >= 2 && token(at - 2) == "mod");
                at += 1;
            }
            "}" => {
                braces.pop();
                at += 1;
            }
            name if is_name(name) || (name == "{" && before == "use") => {
                let renames = before == "use" || (before == "crate" && name != "as");
                let inside = depth + braces.iter().filter(|module| **module).count();
                let mut trees = Vec::new();
                at = tree(tokens, at, &[], &mut trees);
                found.extend(trees.into_iter().map(|segments| Found { segments: from_the_root(segments, inside), renames }));
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one path or tree of paths at `at`, each led by `prefix`; answers where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    loop {
        match token(at) {
            "{" => {
                at += 1;
                while !matches!(token(at), "}" | "") {
                    at = match token(at) {
                        "," | "::" => at + 1,
                        "as" => at + 2,
                        name if is_name(name) || matches!(name, "{" | "*") => tree(tokens, at, &path, found),
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            name if is_name(name) || name == "*" => {
                path.push(name.to_owned());
                at += 1;
            }
            _ => {
                found.push(path);
                return at;
            }
        }
        if token(at) != "::" {
            found.push(path);
            return at;
        }
        at += 1;
    }
}

/// A path that climbs with `super` to the root, as one that begins with `crate`.
fn from_the_root(segments: Vec<String>, depth: usize) -> Vec<String> {
    let own = usize::from(segments.first().is_some_and(|name| name == "self"));
    let climbs = segments.iter().skip(own).take_while(|name| *name == "super").count();
    if climbs == 0 || climbs < depth {
        return segments;
    }
    std::iter::once("crate".to_owned()).chain(segments.into_iter().skip(own + climbs)).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, numbers and marks of a source, `::` as one; without comments, texts and lifetimes.
pub(super) fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after = |n: usize| rest.get(n..).unwrap_or("");
        if rest.starts_with("//") {
            rest = after(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            rest = after_comment(rest);
        } else if first == '"' {
            rest = after_text(after(1), '"');
        } else if first == '\'' {
            // A character, or else a lifetime, of which only the tick is skipped here and
            // whose name stays as a name of one segment, which no rule looks at.
            let is_character = after(1).starts_with('\\') || after(1).chars().nth(1) == Some('\'');
            rest = if is_character { after_text(after(1), '\'') } else { after(1) };
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or("");
            let hashes = after(end).chars().take_while(|c| *c == '#').count();
            let is_raw = matches!(name, "r" | "br" | "cr");
            if is_raw && after(end + hashes).starts_with('"') {
                let close = format!("\"{}", "#".repeat(hashes));
                let body = after(end + hashes + 1);
                let length = body.find(&close).map_or(body.len(), |at| at + close.len());
                rest = body.get(length..).unwrap_or("");
            } else if name == "r" && hashes == 1 {
                rest = after(end + 1);
            } else {
                tokens.push(name.to_owned());
                rest = after(end);
            }
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            rest = after(2);
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            rest = after(first.len_utf8());
        }
    }
    tokens
}

/// What follows a block comment, which may hold others.
fn after_comment(source: &str) -> &str {
    let (mut open, mut at) = (0_usize, 0);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            open += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            open = open.saturating_sub(1);
            at += 2;
            if open == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    source.get(at..).unwrap_or("")
}

/// What follows a text or character whose opening mark has been read.
fn after_text(source: &str, close: char) -> &str {
    let mut characters = source.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == close {
            return source.get(at + 1..).unwrap_or("");
        }
    }
    ""
}
