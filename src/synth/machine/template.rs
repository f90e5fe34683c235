//! A machine that somebody else described: read once, when the images are planned.

use std::io;
use std::path::PathBuf;

use super::hardware::Hardware;
use super::vmx_template::{VmxProblem, VmxTemplate};
use super::{MachineError, ovf_template};
use crate::config::spec::{TemplateFormat, TemplateSpec, VmSpec};
use crate::formats::ovf::{Descriptor, Problem};
use crate::synth::host_file::read_with_mtime;
use crate::units::MIB;

/// Real ones have a few KiB; with licence texts some hundred.
const TEMPLATE_LEN_MAX: u64 = 4 * MIB;

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    path: PathBuf,
    mtime: i64,
    contents: Contents,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Contents {
    Vmx(VmxTemplate),
    Ovf(Box<Descriptor>),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// What it holds.
    #[error("{}:{line}: {problem}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// What is wrong there.
        problem: TemplateProblem,
    },
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// No UTF-8.
    #[error("is no UTF-8")]
    Encoding,
    /// Of a VMX.
    #[error(transparent)]
    Vmx(#[from] VmxProblem),
    /// Of an OVF.
    #[error(transparent)]
    Ovf(#[from] Problem),
    /// Hardware that the other format has no word for.
    #[error("{what} \"{}\" is not known", name.escape_default())]
    Unknown {
        /// What it is the name of.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl TemplateProblem {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Encoding => "save it as UTF-8".to_owned(),
            Self::Vmx(problem) => problem.hint(),
            Self::Ovf(problem) => problem.hint().to_owned(),
            Self::Unknown { .. } => {
                "change it in the template, or leave out the images that need it translated"
                    .to_owned()
            }
        }
    }
}

impl TemplateError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                "name the .vmx or .ovf itself, not the package or the disk".to_owned()
            }
            Self::Read { .. } => "look at it with `ls -l`, or name another file".to_owned(),
            Self::Contents { problem, .. } => problem.hint(),
        }
    }
}

impl Template {
    /// Reads the template that the config names.
    ///
    /// # Errors
    /// [`TemplateError`] if it cannot be read, has more than 4 MiB, or does not describe one machine with one disk.
    pub fn load(spec: &TemplateSpec) -> Result<Self, TemplateError> {
        let path = spec.path.clone();
        let (bytes, mtime) = match read_with_mtime(&path, TEMPLATE_LEN_MAX) {
            Ok(read) => read,
            Err(source) => return Err(TemplateError::Read { path, source }),
        };
        match parse(spec.format, bytes) {
            Ok(contents) => Ok(Self {
                path,
                mtime,
                contents,
            }),
            Err((line, problem)) => Err(TemplateError::Contents {
                path,
                line,
                problem,
            }),
        }
    }

    /// Modification time of the file, seconds since 1970.
    #[must_use]
    pub const fn mtime(&self) -> i64 {
        self.mtime
    }

    /// The file's text: what fingerprints of images include.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.contents {
            Contents::Vmx(vmx) => vmx.text(),
            Contents::Ovf(descriptor) => descriptor.text(),
        }
    }

    pub(super) fn descriptor(&self) -> Option<&Descriptor> {
        match &self.contents {
            Contents::Vmx(_) => None,
            Contents::Ovf(descriptor) => Some(descriptor),
        }
    }

    pub(super) const fn vmx(&self) -> Option<&VmxTemplate> {
        match &self.contents {
            Contents::Vmx(vmx) => Some(vmx),
            Contents::Ovf(_) => None,
        }
    }

    pub(super) fn hardware(&self, vm: &VmSpec) -> Result<Hardware, MachineError> {
        let hardware = match &self.contents {
            Contents::Vmx(vmx) => vmx.hardware(vm.disk_controller),
            Contents::Ovf(descriptor) => {
                let line = descriptor.hardware_line();
                ovf_template::hardware(descriptor.found()).map_err(|problem| (line, problem))
            }
        };
        hardware.map_err(|fault| self.error(fault))
    }

    pub(super) fn error(&self, (line, problem): (u32, TemplateProblem)) -> MachineError {
        let path = self.path.clone();
        MachineError::Template {
            path,
            line,
            problem,
        }
    }
}

fn parse(format: TemplateFormat, bytes: Vec<u8>) -> Result<Contents, (u32, TemplateProblem)> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let line = u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1);
        (line, TemplateProblem::Encoding)
    })?;
    match format {
        TemplateFormat::Vmx => VmxTemplate::parse(text)
            .map(Contents::Vmx)
            .map_err(|(line, problem)| (line, problem.into())),
        TemplateFormat::Ovf => Descriptor::parse(text)
            .map(|descriptor| Contents::Ovf(Box::new(descriptor)))
            .map_err(|mistake| (mistake.line, mistake.problem.into())),
    }
}
