//! The machine around the disk, as the texts that hypervisors import.
//!
//! Invariant: same machine and same disk, same text. A machine is described by the config or by a template; of a
//! template all stays that is not the disk and does not tie it to another place.

mod hardware;
mod ovf_template;
mod template;
mod vmx_template;

use std::path::PathBuf;

use self::hardware::Hardware;
pub use self::template::{Template, TemplateError, TemplateProblem};
pub use self::vmx_template::VmxProblem;
use crate::config::spec::{DiskController, Firmware, VmSpec};
use crate::formats::ovf::Replacement;

/// What an OVF descriptor is made of.
#[derive(Debug, Clone, Copy)]
pub struct OvfParams<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// Its template, if it has one: [`Template::load`].
    pub template: Option<&'a Template>,
    /// File name of the disk, relative to the descriptor: a streamOptimized VMDK.
    pub disk_href: &'a str,
    /// Exact bytes of that file.
    pub disk_file_len: u64,
    /// Size of the disk inside, in bytes.
    pub disk_capacity: u64,
}

/// What a VMX is made of.
#[derive(Debug, Clone, Copy)]
pub struct VmxParams<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// Its template, if it has one: [`Template::load`].
    pub template: Option<&'a Template>,
    /// The VMDK: absolute, or relative to the VMX. VMware opens it for reading only.
    pub disk_path: &'a str,
}

/// Why a machine cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// VMware starts no machine with another size.
    #[error("memory of {mib} MiB: a VMX takes multiples of 4 MiB only")]
    MemoryStep {
        /// The memory.
        mib: u64,
    },
    /// The template has something that the other format does not know.
    #[error("{}:{line}: {problem}", path.display())]
    Template {
        /// The template.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// What it is.
        problem: TemplateProblem,
    },
}

impl MachineError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::MemoryStep { mib } => {
                format!("write memory = \"{}MiB\"", mib.next_multiple_of(4))
            }
            Self::Template { problem, .. } => problem.hint(),
        }
    }
}

/// The OVF descriptor: XML in UTF-8.
///
/// # Errors
/// [`MachineError::Template`] if an OVF cannot say what the VMX does; a machine of the config has no errors.
pub fn ovf_text(params: &OvfParams<'_>) -> Result<Vec<u8>, MachineError> {
    if let Some(descriptor) = params.template.and_then(Template::descriptor) {
        let disk = Replacement {
            href: params.disk_href,
            file_len: params.disk_file_len,
            capacity: params.disk_capacity,
        };
        return Ok(descriptor.with_disk(&disk).into_bytes());
    }
    let hardware = Hardware::of(params.vm, params.template)?;
    Ok(hardware.ovf(params).into_bytes())
}

/// The VMX: text in UTF-8.
///
/// # Errors
/// [`MachineError`] for memory that is no multiple of 4 MiB, and for what a VMX cannot say of an OVF.
pub fn vmx_text(params: &VmxParams<'_>) -> Result<Vec<u8>, MachineError> {
    if let Some(template) = params.template
        && let Some(vmx) = template.vmx()
    {
        let text = vmx.with_disk(params.name, params.disk_path, params.vm.disk_controller);
        return text
            .map(String::into_bytes)
            .map_err(|fault| template.error(fault));
    }
    let hardware = Hardware::of(params.vm, params.template)?;
    if !hardware.memory_mib.is_multiple_of(4) {
        let mib = hardware.memory_mib;
        return Err(MachineError::MemoryStep { mib });
    }
    Ok(hardware.vmx(params).into_bytes())
}

/// Memory in MiB, and virtual CPUs.
///
/// # Errors
/// [`MachineError`] for what cannot be read of a template.
pub fn memory_and_cpus(
    vm: &VmSpec,
    template: Option<&Template>,
) -> Result<(u64, u32), MachineError> {
    let hardware = Hardware::of(vm, template)?;
    Ok((hardware.memory_mib, hardware.cpus))
}

/// Whether the machine starts by EFI.
#[must_use]
pub fn has_efi(vm: &VmSpec, template: Option<&Template>) -> bool {
    Hardware::of(vm, template).is_ok_and(|hardware| hardware.firmware == Firmware::Efi)
}

/// The controller that the disk will hang on; it decides about a VMDK's adapter type and geometry. NVMe counts as SATA.
#[must_use]
pub fn disk_controller(vm: &VmSpec, template: Option<&Template>) -> DiskController {
    Hardware::of(vm, template).map_or(vm.disk_controller, |hardware| hardware.disk_controller())
}
