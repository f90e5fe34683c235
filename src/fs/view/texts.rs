//! Texts of `.miragefs`, each made for the moment in which it is opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::super::control::{self, ControlFile};
use super::super::shelf::{Shown, Token};
use super::super::status::{self, MountFacts};
use super::{View, Wish};
use crate::synth::generation::Image;

impl View {
    /// A file of `.miragefs` as it is now.
    pub(super) fn text(
        &self,
        name: Option<&str>,
        file: ControlFile,
        inode: u64,
    ) -> Option<Arc<Shown>> {
        let now = control::seconds(SystemTime::now());
        let texts = name.and_then(|name| {
            let state = self.state.read();
            Some(Arc::clone(&state.shelves.get(name)?.texts))
        });
        let image = match (file, texts) {
            (ControlFile::Status, _) => control::text_image(file, self.status(name)?, now),
            (ControlFile::Log, _) => control::text_image(file, self.surroundings.log.text(), now),
            (ControlFile::Number, _) => {
                let number = self.state.read().shelves.get(name?)?.number;
                control::text_image(file, format!("miragefsGeneration({number});\n"), now)
            }
            (ControlFile::Reload, _) => control::text_image(file, String::new(), now),
            (ControlFile::Config, Some(texts)) => texts.config(),
            (ControlFile::Picture(picture), Some(texts)) => texts.picture(picture),
            (ControlFile::Config | ControlFile::Picture(_), None) => return None,
        };
        Some(self.text_shown(name, file, inode, image))
    }

    fn text_shown(
        &self,
        shelf: Option<&str>,
        file: ControlFile,
        inode: u64,
        image: Arc<Image>,
    ) -> Arc<Shown> {
        Arc::new(Shown {
            inode,
            mtime: image.mtime,
            image,
            permissions: file.permissions(),
            since: 0,
            shelf: shelf.unwrap_or_default().into(),
            token: Arc::new(Token(0)),
        })
    }

    /// Asks for a new generation; the text has the number by which the status will tell that it was answered.
    pub(super) fn ask(&self, shelf: &str, inode: u64) -> Arc<Shown> {
        let before = self.counters.tickets.fetch_add(1, Ordering::Relaxed);
        let ticket = before.saturating_add(1);
        self.wish(shelf, Wish::Reload(ticket));
        let file = ControlFile::Reload;
        let now = control::seconds(SystemTime::now());
        let image = control::text_image(file, format!("{{\"ticket\": {ticket}}}\n"), now);
        self.text_shown(Some(shelf), file, inode, image)
    }

    /// The status of a config's images, or of the whole mount; `None` if they are gone.
    fn status(&self, shelf: Option<&str>) -> Option<String> {
        let facts = MountFacts {
            mountpoint: &self.surroundings.mountpoint,
            started: self.started,
            cache: self.surroundings.cache.as_deref(),
            counters: &self.counters,
            open_handles: self.handles.read().len(),
        };
        let state = self.state.read();
        match shelf {
            Some(name) => Some(status::of_shelf(state.shelves.get(name)?, &facts)),
            None => Some(status::of_mount(state.shelves.values(), &facts)),
        }
    }
}
