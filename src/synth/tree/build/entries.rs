//! What the config itself puts into a tree, and the boot loader.

use super::super::{Attributes, DeviceNumber, NodeId, Special, TreeError, TreeWarning};
use super::{NewNode, TreeBuilder};
use crate::config::spec::{
    DeviceKind, ImagePath, InlineDevice, InlineDirectory, InlineFile, InlineSymlink, Location,
    Owner, PartitionSpec,
};
use crate::synth::identifiers::Identifiers;

impl TreeBuilder {
    /// Adds what the config itself puts into a partition: directories, files, symlinks, devices. What does not fit,
    /// [`TreeBuilder::finish`] tells.
    pub fn entries(&mut self, partition: &PartitionSpec, identifiers: &Identifiers) {
        for directory in &partition.directories {
            let placed = self.directory(directory);
            self.mistakes.take(placed);
        }
        for file in &partition.files {
            let placed = self.inline(file, identifiers);
            self.mistakes.take(placed);
        }
        for symlink in &partition.symlinks {
            let placed = self.symlink(symlink);
            self.mistakes.take(placed);
        }
        for device in &partition.devices {
            let placed = self.device(device);
            self.mistakes.take(placed);
        }
    }

    /// Adds a file of the config; `identifiers` are those of the same config.
    ///
    /// # Errors
    /// [`TreeError`] if the path meets a directory or leads through something that is none.
    pub fn inline(
        &mut self,
        file: &InlineFile,
        identifiers: &Identifiers,
    ) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(file.mode, file.owner);
        let bytes = identifiers.fill(&file.contents);
        let new = NewNode::Inline(&bytes);
        self.place(&file.path, new, &attributes, &file.location)
    }

    /// Adds a directory of the config, or gives one that is there its attributes.
    ///
    /// # Errors
    /// [`TreeError`] if the path meets or leads through something that is none.
    pub fn directory(&mut self, directory: &InlineDirectory) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(directory.mode, directory.owner);
        if directory.path.0.is_empty() {
            self.set_attributes(NodeId::ROOT, &attributes, None);
            return Ok(NodeId::ROOT);
        }
        let new = NewNode::Directory;
        self.place(&directory.path, new, &attributes, &directory.location)
    }

    /// Adds a symlink of the config.
    ///
    /// # Errors
    /// As [`TreeBuilder::inline`].
    pub fn symlink(&mut self, symlink: &InlineSymlink) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(0o777, symlink.owner);
        let new = NewNode::Symlink(symlink.target.as_bytes());
        self.place(&symlink.path, new, &attributes, &symlink.location)
    }

    /// Adds a special file of the config.
    ///
    /// # Errors
    /// As [`TreeBuilder::inline`].
    pub fn device(&mut self, device: &InlineDevice) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(device.mode, device.owner);
        let special = match device.kind {
            DeviceKind::Character { major, minor } => {
                Special::CharacterDevice(DeviceNumber { major, minor })
            }
            DeviceKind::Block { major, minor } => {
                Special::BlockDevice(DeviceNumber { major, minor })
            }
            DeviceKind::Fifo => Special::Fifo,
            DeviceKind::Socket => Special::Socket,
        };
        let new = NewNode::Special(special);
        self.place(&device.path, new, &attributes, &device.location)
    }

    /// Adds a file of the boot loader, as `extlinux --install` leaves it, and says if it replaces another.
    pub fn boot_loader_file(
        &mut self,
        directory: &ImagePath,
        name: &str,
        bytes: &[u8],
        immutable: bool,
        location: &Location,
    ) {
        let mut path = directory.clone();
        path.0.push(name.as_bytes().to_vec());
        if self.lookup(&path).is_some() {
            self.warnings.push(TreeWarning::BootLoaderFile {
                path: path.to_string(),
            });
        }
        let attributes = Attributes {
            immutable,
            ..self.attributes(0o444, Owner::default())
        };
        let placed = self.place(&path, NewNode::Inline(bytes), &attributes, location);
        self.mistakes.take(placed);
    }
}
