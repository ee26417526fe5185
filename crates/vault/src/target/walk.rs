//! Lists a tree of directories in the byte order of whole names: a directory sorts as its name and
//! a slash, so that `a-b/1` comes before `a/1`.

use std::path::Path;
use std::{fs, io};

use stillpoint_model::ByteCount;

use super::{ListEntry, ListPage, ObjectName};

/// What a walk asks of a tree. Paths are relative to its root; that of a directory is empty or
/// ends with a slash.
pub(super) trait Tree {
    /// The names in a directory, in any order, those of directories with a slash at their end.
    /// None when a directory other than the root is not there any more.
    fn children(&self, dir: &str) -> io::Result<Option<Vec<String>>>;

    /// The length of a file; none when it went away or is no file.
    fn file_len(&self, path: &str) -> io::Result<Option<u64>>;
}

/// One page of a listing: see [`Target::list`](super::Target::list).
pub(super) fn list_page(
    tree: &dyn Tree,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> io::Result<ListPage> {
    let mut walk = Walk {
        tree,
        after: after.unwrap_or(""),
        limit,
        found: vec![],
    };
    walk.dir(prefix)?;
    let more = walk.found.len() > limit;
    walk.found.truncate(limit);
    Ok(ListPage {
        entries: walk.found,
        more,
    })
}

/// The names in a directory of this machine, those of directories with a slash at their end.
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // What is no UTF-8 is nobody's object.
        if let Ok(name) = entry.file_name().into_string() {
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            names.push(format!("{name}{slash}"));
        }
    }
    Ok(names)
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    after: &'a str,
    limit: usize,
    found: Vec<ListEntry>,
}

impl Walk<'_> {
    fn dir(&mut self, prefix: &str) -> io::Result<()> {
        // A directory that went away held nothing that was there throughout.
        let names = self.tree.children(prefix)?.unwrap_or_default();
        let seen = names.into_iter().filter(|name| !name.starts_with('.'));
        let mut paths: Vec<_> = seen.map(|name| format!("{prefix}{name}")).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            if self.found.len() > self.limit {
                break;
            }
            if path.ends_with('/') {
                // Everything below sorts before `after` unless `after` is below or before it.
                if path.as_str() > self.after || self.after.starts_with(&path) {
                    self.dir(&path)?;
                }
            } else if path.as_str() > self.after {
                self.file(path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String) -> io::Result<()> {
        let Ok(name) = ObjectName::new(path) else {
            return Ok(());
        };
        if let Some(len) = self.tree.file_len(name.as_str())? {
            let len = ByteCount::new(len);
            self.found.push(ListEntry { name, len });
        }
        Ok(())
    }
}
