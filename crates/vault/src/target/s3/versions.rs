//! The versions of a bucket with Object Lock, where the first one is the object.
//!
//! Such a bucket never replaces anything: a put over an object is another version above it, a delete
//! by name a marker that hides it. Whoever stole the credentials can do both to every object, and
//! some servers let two creates of one name through, condition or not. So here a name means the
//! oldest version that can be read, which a lock holds in its place:
//!
//! ```text
//!  put ── stored as version v ── the oldest is v ───> it is ours
//!                              └ the oldest is not ─> v is removed: the name was taken
//!  listing, length, small object:  the oldest version, whatever lies above
//!  part of a large object:         by name, in one request; below a marker the oldest version
//! ```
//!
//! Servers order the versions of a name once and for all, so of several creates exactly one finds
//! itself the oldest. A delete removes the newest first and the oldest last, so that nobody takes
//! for an object what is about to go.

use bytes::Bytes;
use http::Method;
use object_store::{ObjectStore as _, PutOptions, PutPayload};
use stillpoint_model::{ByteCount, ByteRange, ErrorKind};

use super::answer::{Trouble, element};
use super::lock::{document, escaped};
use super::{Attempt, Bucket};
use crate::target::{Disturbed, ListEntry, ListPage, ObjectName, TargetError};

/// The longest page of a listing that is read: 1000 entries with the longest keys.
const MAX_PAGE_LEN: usize = 8 << 20;
/// How many versions of one name are looked at before something is wrong.
const MAX_VERSIONS: usize = 100_000;

/// One version, or a marker that hides those below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The name that it is of, below our prefix.
    name: String,
    pub id: String,
    pub len: u64,
    pub is_marker: bool,
}

/// A page of a listing of versions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// By key; of one key the newest first.
    versions: Vec<Version>,
    /// Where the next one begins: a key, and a version of it.
    next: Option<(String, String)>,
}

impl Bucket {
    /// One page of the versions of what is below a prefix.
    async fn versions_page(&self, prefix: &str, from: Option<&(String, String)>) -> Attempt<Page> {
        let prefix = escaped(&self.settings.key(prefix));
        let mut query = format!("encoding-type=url&prefix={prefix}&versions");
        if let Some((key, version)) = from {
            query.push_str(&format!("&key-marker={}", escaped(key)));
            if !version.is_empty() {
                query.push_str(&format!("&version-id-marker={}", escaped(version)));
            }
        }
        let answer = self.signed(Method::GET, None, &query, Bytes::new()).await?;
        let xml = document(answer, MAX_PAGE_LEN).await?;
        let mut page = parse(&xml)?;
        page.versions.retain_mut(|version| {
            let name = self.settings.name(&version.name).map(str::to_owned);
            name.map(|name| version.name = name).is_some()
        });
        Ok(page)
    }

    /// Everything under a name: markers, and versions from the newest to the oldest.
    pub(super) async fn versions_of(&self, name: &str) -> Attempt<Vec<Version>> {
        let mut all: Vec<Version> = vec![];
        let mut from = None;
        loop {
            let page = self.versions_page(name, from.as_ref()).await?;
            // Names that only begin like this one come after it.
            let is_over = page.versions.iter().any(|version| version.name != name);
            all.extend(page.versions.into_iter().filter(|it| it.name == name));
            from = page.next;
            if is_over || from.is_none() {
                return Ok(all);
            }
            if all.len() > MAX_VERSIONS {
                let why = "it has more versions than it should";
                return Err(Trouble::found(ErrorKind::Conflict, why));
            }
        }
    }

    /// The object that a name means.
    pub(super) async fn first_version(&self, name: &str) -> Attempt<Version> {
        let all = self.versions_of(name).await?;
        let first = all.into_iter().rfind(|version| !version.is_marker);
        first.ok_or_else(|| Trouble::found(ErrorKind::NotFound, "there is no such object"))
    }

    /// Whether what was put just now is the object, given the version that the server made of it.
    /// What is not is removed.
    pub(super) async fn settle(&self, name: &str, put: Option<&str>) -> Attempt<bool> {
        let put = put.filter(|version| *version != "null");
        let put = put.ok_or_else(|| {
            let why = "the bucket keeps no versions, so that nothing can be locked in it";
            Trouble::found(ErrorKind::Unsupported, why)
        })?;
        let first = self.first_version(name).await.map_err(|trouble| {
            match trouble.is_no_such_object() {
                true => trouble.of_kind(ErrorKind::Retry),
                false => trouble,
            }
        })?;
        if first.id == put {
            return Ok(true);
        }
        self.remove(name, put).await?;
        Ok(false)
    }

    /// Removes everything under a name, the object last.
    pub(super) async fn delete_versions(&self, name: &str) -> Attempt<()> {
        let all = self.versions_of(name).await?;
        let (markers, versions): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.is_marker);
        for version in versions.iter().chain(&markers) {
            self.remove(name, &version.id).await?;
        }
        Ok(())
    }

    /// Reads a part of the object, whatever lies above it.
    pub(super) async fn get_first(
        &self,
        name: &str,
        range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Attempt<()> {
        let first = self.first_version(name).await?;
        if first.len < range.end() {
            return Err(Trouble::found(ErrorKind::Corrupt, "it ends before that"));
        }
        self.get_at(name, Some(&first.id), range, into).await
    }

    /// Reads a version whole.
    pub(super) async fn get_version_once(
        &self,
        name: &str,
        version: &str,
        most: u64,
    ) -> Attempt<Vec<u8>> {
        let all = self.versions_of(name).await?;
        let found = all.into_iter().find(|it| it.id == version && !it.is_marker);
        let found =
            found.ok_or_else(|| Trouble::found(ErrorKind::NotFound, "there is no such version"))?;
        if found.len > most {
            return Err(Trouble::found(ErrorKind::Corrupt, "it is too long"));
        }
        let mut bytes = vec![];
        let range = ByteRange::new(0, found.len);
        self.get_at(name, Some(version), range, &mut bytes).await?;
        Ok(bytes)
    }

    /// Reads the object whole, whatever lies above it.
    pub(super) async fn get_first_whole(&self, name: &str, most: u64) -> Attempt<Vec<u8>> {
        let first = self.first_version(name).await?;
        if first.len > most {
            return Err(Trouble::found(ErrorKind::Corrupt, "it is too long"));
        }
        let mut bytes = vec![];
        let all = ByteRange::new(0, first.len);
        self.get_at(name, Some(&first.id), all, &mut bytes).await?;
        Ok(bytes)
    }

    /// A part of a listing, in which hidden objects are there and nothing is there twice.
    pub(super) async fn list_first(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, TargetError> {
        let mut from = after.map(|after| (self.settings.key(after), String::new()));
        let mut found: Vec<Version> = vec![];
        loop {
            let once = async || self.versions_page(prefix, from.as_ref()).await;
            let page = self.persist("list", prefix, once).await?;
            from = page.next;
            let versions = page.versions.into_iter().filter(|it| !it.is_marker);
            for version in versions.filter(|it| after.is_none_or(|after| *it.name > *after)) {
                match found.last_mut() {
                    // An older one of the same name.
                    Some(last) if last.name == version.name => *last = version,
                    Some(last) if last.name > version.name => {
                        let unordered = super::unordered("it does not list in the order of names");
                        return Err(self.give_up("list", prefix, unordered));
                    }
                    _ => found.push(version),
                }
            }
            // Of the last one there may be older versions on the next page.
            let whole = found.len() - usize::from(from.is_some() && !found.is_empty());
            let last = found.split_off(whole);
            let more = from.is_some() || whole > limit;
            found.truncate(limit);
            // What nobody here could have stored is left alone.
            let entries = found.into_iter().filter_map(|version| {
                let name = ObjectName::new(&version.name).ok()?;
                let len = ByteCount::new(version.len);
                Some(ListEntry { name, len })
            });
            let entries: Vec<_> = entries.collect();
            if !entries.is_empty() || !more {
                return Ok(ListPage { entries, more });
            }
            found = last;
        }
    }

    /// Names with more than one version, or with a marker.
    pub(super) async fn disturbed(&self, prefix: &str) -> Result<Vec<Disturbed>, TargetError> {
        let mut found: Vec<Disturbed> = vec![];
        let mut last: Option<(String, Vec<Version>)> = None;
        let mut from = None;
        loop {
            let once = async || self.versions_page(prefix, from.as_ref()).await;
            let page = self.persist("list", prefix, once).await?;
            for version in page.versions {
                match &mut last {
                    Some((name, all)) if *name == version.name => all.push(version),
                    _ => {
                        let next = (version.name.clone(), vec![version]);
                        found.extend(last.replace(next).and_then(disturbance));
                    }
                }
            }
            from = page.next;
            if from.is_none() {
                found.extend(last.and_then(disturbance));
                return Ok(found);
            }
        }
    }

    /// See [`Target::keep_version`](crate::target::Target::keep_version).
    pub(super) async fn keep_once(&self, name: &str, version: &str) -> Attempt<()> {
        let all = self.versions_of(name).await?;
        let mut older = false;
        let mut left_above = false;
        for other in all.iter().filter(|it| !it.is_marker) {
            if other.id == version {
                older = true;
                continue;
            }
            match self.remove(name, &other.id).await {
                Ok(()) => {}
                Err(trouble) if trouble.kind == ErrorKind::Conflict && older => {
                    return Err(trouble);
                }
                Err(trouble) if trouble.kind == ErrorKind::Conflict => left_above = true,
                Err(trouble) => return Err(trouble),
            }
        }
        for marker in all.iter().filter(|it| it.is_marker) {
            self.remove(name, &marker.id).await?;
        }
        if left_above {
            let bytes = self.get_first_whole(name, u64::MAX).await?;
            let key = self.key(name)?;
            let payload = PutPayload::from(Bytes::from(bytes));
            let put = self.store.put_opts(&key, payload, PutOptions::default());
            put.await
                .map_err(|error| Trouble::of(&error, ErrorKind::Retry))?;
        }
        Ok(())
    }
}

fn disturbance((name, all): (String, Vec<Version>)) -> Option<Disturbed> {
    if all.len() < 2 {
        return None;
    }
    let readable = all.into_iter().rev().filter(|it| !it.is_marker);
    Some(Disturbed {
        name: ObjectName::new(&name).ok()?,
        versions: readable.map(|version| version.id).collect(),
    })
}

/// Takes a page apart.
fn parse(xml: &str) -> Attempt<Page> {
    let broken = || Trouble::found(ErrorKind::Unsupported, "it lists versions in no known way");
    if !xml.contains("<ListVersionsResult") {
        return Err(broken());
    }
    let is_encoded = element(xml, "EncodingType") == Some("url");
    let text = |text: &str| match is_encoded {
        true => unescaped(text),
        false => Some(text.to_owned()),
    };
    let mut page = Page::default();
    let mut rest = xml;
    while let Some((at, tag)) = next_entry(rest) {
        let end = format!("</{tag}>");
        let (entry, after) = rest[at..].split_once(&end).ok_or_else(broken)?;
        let is_marker = tag == "DeleteMarker";
        let len = element(entry, "Size").and_then(|len| len.parse().ok());
        let key = element(entry, "Key").and_then(text);
        let id = element(entry, "VersionId");
        page.versions.push(Version {
            name: key.ok_or_else(broken)?,
            id: id.ok_or_else(broken)?.to_owned(),
            len: len.or(is_marker.then_some(0)).ok_or_else(broken)?,
            is_marker,
        });
        rest = after;
    }
    // Some list the markers of a page after all of its versions.
    page.versions.sort_by(|a, b| a.name.cmp(&b.name));
    if element(xml, "IsTruncated") == Some("true") {
        let key = element(xml, "NextKeyMarker").and_then(text);
        let version = element(xml, "NextVersionIdMarker").unwrap_or_default();
        page.next = Some((key.ok_or_else(broken)?, version.to_owned()));
    }
    Ok(page)
}

/// Where the next entry begins, and what it is.
fn next_entry(xml: &str) -> Option<(usize, &'static str)> {
    let found = ["Version", "DeleteMarker"].map(|tag| Some((xml.find(&format!("<{tag}>"))?, tag)));
    found.into_iter().flatten().min()
}

/// Takes percent signs apart.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart_whatever_the_order_of_its_markers() {
        let xml = "<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"x\"><IsTruncated>true\
            </IsTruncated><EncodingType>url</EncodingType><NextKeyMarker>v%2Fb</NextKeyMarker>\
            <NextVersionIdMarker>2</NextVersionIdMarker>\
            <Version><Key>v%2Fa</Key><VersionId>3</VersionId><Size>7</Size></Version>\
            <Version><Key>v%2Fb</Key><VersionId>2</VersionId><Size>8</Size></Version>\
            <DeleteMarker><Key>v%2Fa</Key><VersionId>4</VersionId></DeleteMarker>\
            </ListVersionsResult>";
        let page = parse(xml).unwrap();
        assert_eq!(page.next, Some(("v/b".into(), "2".into())));
        let seen: Vec<_> = page
            .versions
            .iter()
            .map(|v| (&*v.name, &*v.id, v.len))
            .collect();
        assert_eq!(seen, [("v/a", "3", 7), ("v/a", "4", 0), ("v/b", "2", 8)]);
    }

    #[test]
    fn what_is_no_listing_of_versions_is_an_error() {
        for xml in [
            "<ListBucketResult></ListBucketResult>",
            "<ListVersionsResult><Version><Key>a</Key></Version></ListVersionsResult>",
            "<ListVersionsResult><Version>",
        ] {
            assert_eq!(
                parse(xml).unwrap_err().kind,
                ErrorKind::Unsupported,
                "{xml}"
            );
        }
    }
}
