use std::path::{Path, PathBuf};

use crate::chunked::BoxError;
use crate::files::FileStamp;

/// Models that were loaded, so that a file is read once and again only after it changed.
///
/// A file is known by its path, its modification time and its length. One model is kept: that of
/// another file takes its place.
///
/// # Example
/// ```
/// use burn_memopt::batch::ModelCache;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("model");
/// std::fs::write(&path, "weights")?;
/// let mut models = ModelCache::new(|path| Ok(std::fs::read_to_string(path)?));
/// assert_eq!(models.get(&path)?, "weights");
/// std::fs::write(&path, "better weights")?;
/// assert_eq!(models.get(&path)?, "better weights");
/// assert_eq!(models.num_loads(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ModelCache<M> {
    load: Box<Load<M>>,
    /// Those used last first.
    kept: Vec<Model<M>>,
    capacity: usize,
    num_loads: usize,
}

type Load<M> = dyn FnMut(&Path) -> Result<M, BoxError>;

struct Model<M> {
    path: PathBuf,
    /// The file as it was when the model was loaded.
    stamp: FileStamp,
    model: M,
}

/// Why there is no model.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is not there, or its modification time is unknown.
    #[error("cannot look at the model {}", path.display())]
    Look {
        /// The model's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file could not be loaded.
    #[error("cannot load the model {}", path.display())]
    Load {
        /// The model's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl<M> ModelCache<M> {
    /// Loads models by `load`.
    pub fn new(load: impl FnMut(&Path) -> Result<M, BoxError> + 'static) -> Self {
        Self {
            load: Box::new(load),
            kept: Vec::new(),
            capacity: 1,
            num_loads: 0,
        }
    }

    /// Chooses how many models are kept, those used last. The default is 1.
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_capacity(self, capacity: usize) -> Self {
        assert!(capacity > 0, "the capacity must be at least 1, got 0");
        Self { capacity, ..self }
    }

    /// The model in the file at `path`, as the file is now.
    ///
    /// # Errors
    /// If the file is not there or cannot be loaded.
    pub fn get(&mut self, path: &Path) -> Result<&M, ModelError> {
        let stamp = FileStamp::read(path).map_err(|source| ModelError::Look {
            path: path.into(),
            source,
        })?;
        let is_same = |kept: &Model<M>| kept.path == path && kept.stamp == stamp;
        let used = if let Some(place) = self.kept.iter().position(is_same) {
            self.kept.remove(place)
        } else {
            // What is replaced is dropped first: two models may be more than fits.
            self.kept.retain(|kept| kept.path != path);
            self.kept.truncate(self.capacity - 1);
            let model = (self.load)(path).map_err(|source| ModelError::Load {
                path: path.into(),
                source,
            })?;
            self.num_loads += 1;
            Model {
                path: path.into(),
                stamp,
                model,
            }
        };
        self.kept.insert(0, used);
        Ok(&self.kept[0].model)
    }

    /// How often a model was loaded.
    pub fn num_loads(&self) -> usize {
        self.num_loads
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn write(path: &Path, text: &str, age: u64) {
        fs::write(path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_file_is_loaded_again_only_after_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let mut models = ModelCache::new(|path| Ok(fs::read_to_string(path)?));
        write(&path, "one", 3);
        for _ in 0..3 {
            assert_eq!(models.get(&path).unwrap(), "one");
        }
        assert_eq!(models.num_loads(), 1);
        // Of the same length.
        write(&path, "two", 2);
        assert_eq!(models.get(&path).unwrap(), "two");
        assert_eq!(models.num_loads(), 2);
    }

    #[test]
    fn the_models_used_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| dir.path().join(name));
        for path in &paths {
            write(path, "weights", 0);
        }
        let mut models = ModelCache::new(|path| Ok(path.to_owned())).with_capacity(2);
        let mut loads = |index: usize| {
            assert_eq!(models.get(&paths[index]).unwrap(), &paths[index]);
            models.num_loads()
        };
        assert_eq!([0, 1, 0, 2, 0, 1].map(&mut loads), [1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let mut models = ModelCache::<()>::new(|_| Err("not a model".into()));
        let error = models.get(&path).unwrap_err();
        assert!(matches!(error, ModelError::Look { .. }), "{error}");
        write(&path, "", 0);
        let error = models.get(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot load the model"));
    }
}
