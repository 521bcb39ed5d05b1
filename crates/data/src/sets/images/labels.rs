//! Classes of images, from sub-folders or from EDM's `dataset.json`.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::LabelSource;
use super::store::Store;
use crate::dataset::class_of;
use crate::error::DataError;

/// One class for each of the store's images, or `None`.
pub(super) fn read(store: &mut Store, source: LabelSource, classes: Option<usize>) -> Result<Option<Vec<u32>>, DataError> {
    let root = common_folder(store.images());
    // Beside the images, or at the top of the archive.
    let json = [format!("{root}dataset.json"), "dataset.json".to_owned()].into_iter().find(|name| store.has(name));
    match (source, json) {
        (LabelSource::None, _) => Ok(None),
        (LabelSource::Auto | LabelSource::Json, Some(name)) => from_json(store, &name, classes),
        (LabelSource::Json, None) => {
            Err(DataError::format(store.path(), "the content", "without dataset.json", "one, as labels is \"json\""))
        }
        (LabelSource::Auto | LabelSource::Folders, _) => {
            let labels = from_folders(store, &root)?;
            if labels.is_none() && source == LabelSource::Folders {
                let expected = "several, as labels is \"folders\"";
                return Err(DataError::format(store.path(), "the number of class folders", "below two", expected));
            }
            Ok(labels)
        }
    }
}

/// The folder, with its slash, that all images are in.
fn common_folder(images: &[String]) -> String {
    let folder_of = |name: &str| name.rfind('/').map_or(0, |slash| slash + 1);
    let Some(first) = images.first() else { return String::new() };
    let mut common = &first[..folder_of(first)];
    for name in images {
        while !name.starts_with(common) {
            common = &common[..folder_of(common.trim_end_matches('/'))];
        }
    }
    common.to_owned()
}

fn from_folders(store: &Store, root: &str) -> Result<Option<Vec<u32>>, DataError> {
    let class_folder = |name: &'_ str| name[root.len()..].split_once('/').map(|(folder, _)| folder.to_owned());
    let folders: Vec<Option<String>> = store.images().iter().map(|name| class_folder(name)).collect();
    let names: BTreeSet<&String> = folders.iter().flatten().collect();
    if names.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<&String> = names.into_iter().collect();
    if names.iter().all(|name| name.parse::<u64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<u64>().expect("checked just now"));
    }
    let order: HashMap<&String, u32> = names.into_iter().zip(0..).collect();
    let class = |(folder, image): (&Option<String>, &String)| match folder {
        Some(folder) => Ok(order[folder]),
        None => Err(DataError::format(
            store.path_of(image),
            "the folder",
            "outside the class folders that other images are in",
            "a class folder for each image, or labels = \"none\"",
        )),
    };
    folders.iter().zip(store.images()).map(class).collect::<Result<_, _>>().map(Some)
}

fn from_json(store: &mut Store, name: &str, classes: Option<usize>) -> Result<Option<Vec<u32>>, DataError> {
    let path = store.path_of(name);
    let wrong = |field: &str, found: String, expected: &str| DataError::format(&path, field, found, expected);
    let bytes = store.read(name)?;
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| wrong("the content", format!("not JSON ({error})"), "{\"labels\": [[\"file\", class], …]}"))?;
    let entries = match json.get("labels") {
        Some(Value::Null) => return Ok(None),
        Some(Value::Array(entries)) => entries,
        Some(other) => return Err(wrong("labels", brief(other), "a list of [\"file\", class], or null")),
        None => return Err(wrong("labels", "missing".to_owned(), "a list of [\"file\", class], or null")),
    };
    let root = &name[..name.len() - "dataset.json".len()];
    let mut class_by_name = HashMap::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let field = format!("labels[{i}]");
        let pair = entry.as_array().and_then(|pair| match &pair[..] {
            [file, class] => Some((file.as_str()?, class.as_i64()?)),
            _ => None,
        });
        let (file, class) = pair.ok_or_else(|| wrong(&field, brief(entry), "[\"file\", class] with a whole number"))?;
        let class = class_of(&path, &field, class, classes)?;
        if class_by_name.insert(format!("{root}{}", file.replace('\\', "/")), class).is_some() {
            return Err(wrong(&field, format!("a second entry for {file:?}"), "one entry for each image"));
        }
    }
    let mut labels = Vec::with_capacity(store.images().len());
    for image in store.images() {
        match class_by_name.remove(image) {
            Some(class) => labels.push(class),
            None => return Err(wrong("labels", format!("without an entry for {image:?}"), "one entry for each image")),
        }
    }
    if let Some(missing) = class_by_name.keys().min() {
        return Err(wrong("labels", format!("naming {missing:?}, which is not there"), "the names of images"));
    }
    Ok(Some(labels))
}

/// A JSON value, cut to what fits into a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
