"""KVM's three handles on the real /dev/kvm: file descriptors and ioctl(2)."""

import os
import struct

from accel._kvmabi import ffi, lib
from accel.errors import HandleError
from accel.handles import Handle, SystemHandle, VcpuHandle, VmHandle
from qom import AccelError

DEVICE = "/dev/kvm"


class _Descriptor(Handle):
    """A handle that is a file descriptor."""

    descriptor: int
    stats_descriptor: int = -1

    def ioctl(self, request: int, argument: int) -> int:
        return int(lib.abi_fd_ioctl(ffi.cast("void *", self.descriptor), request, argument))

    def _release(self) -> None:
        if self.stats_descriptor >= 0:
            os.close(self.stats_descriptor)
        os.close(self.descriptor)

    def _open_stats(self) -> None:
        """To be called at the start: on a vCPU that is inside KVM_RUN the call would wait for its end; reading does not."""
        if self.check_extension("KVM_CAP_BINARY_STATS_FD"):
            self.stats_descriptor = self.call("KVM_GET_STATS_FD")

    def stats(self) -> dict[str, int | list[int]]:
        """KVM's binary statistics of this VM or vCPU; any thread, also while the guest runs."""
        return _read_stats(self.stats_descriptor) if self.stats_descriptor >= 0 else {}


def _read_stats(descriptor: int) -> dict[str, int | list[int]]:
    header = ffi.new("struct kvm_stats_header *")
    ffi.buffer(header)[:] = os.pread(descriptor, ffi.sizeof("struct kvm_stats_header"), 0)
    entry = ffi.sizeof("struct kvm_stats_desc") + header.name_size
    table = os.pread(descriptor, entry * header.num_desc, header.desc_offset)
    stats: dict[str, int | list[int]] = {}
    for start in range(0, len(table), entry):
        text = ffi.from_buffer(table[start : start + entry])
        row = ffi.cast("struct kvm_stats_desc *", text)
        name = ffi.string(row.name, header.name_size).decode()
        data = os.pread(descriptor, 8 * row.size, header.data_offset + row.offset)
        values = struct.unpack(f"<{row.size}Q", data)
        stats[name] = values[0] if row.size == 1 else list(values)
    return stats


class KvmSystem(_Descriptor, SystemHandle):
    """/dev/kvm itself."""

    def __init__(self, device: str = DEVICE) -> None:
        """Open the device and check its interface version."""
        try:
            self.descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise AccelError(f"kvm: cannot open {device}: {error.strerror}") from None
        super().__init__("kvm", None)
        try:
            version = self.api_version()
        except AccelError:
            self.close()
            raise AccelError(f"kvm: {device} is not a KVM device") from None
        if version != lib.KVM_API_VERSION:
            self.close()
            raise AccelError(f"kvm: {device} has interface version {version}, need {lib.KVM_API_VERSION}")

    def create_vm(self) -> "KvmVm":
        """KVM_CREATE_VM."""
        return KvmVm(self, self.call("KVM_CREATE_VM"))


class KvmVm(_Descriptor, VmHandle):
    """A VM's descriptor."""

    def __init__(self, system: KvmSystem, descriptor: int) -> None:
        self.descriptor = descriptor
        super().__init__("kvm VM", system)
        self._open_stats()

    def create_vcpu(self, number: int) -> "KvmVcpu":
        """KVM_CREATE_VCPU and the mapping of its run page."""
        return KvmVcpu(self, number, self.call("KVM_CREATE_VCPU", number))


class KvmVcpu(_Descriptor, VcpuHandle):
    """A vCPU's descriptor and its run page."""

    def __init__(self, vm: KvmVm, number: int, descriptor: int) -> None:
        self.descriptor = descriptor
        self._size = vm.system.vcpu_mmap_size()
        where = f"kvm vCPU {number}"
        try:
            vm.need("KVM_RUN with a race-free kick", "KVM_CAP_IMMEDIATE_EXIT")
            signal = lib.abi_install_kick_signal()
            if signal < 0:
                raise HandleError(where, "sigaction", -signal)
            error = ffi.new("int *")
            page = lib.abi_map_run(descriptor, self._size, error)
            if error[0]:
                raise HandleError(where, "mmap of the run page", -error[0])
        except AccelError:
            os.close(descriptor)
            raise
        c_vcpu = ffi.new("struct abi_vcpu *")
        c_vcpu.ioctl = lib.abi_fd_ioctl_address()
        c_vcpu.kick = lib.abi_fd_kick_address()
        c_vcpu.handle = ffi.cast("void *", descriptor)
        c_vcpu.kick_signal = signal
        c_vcpu.run = page
        super().__init__(where, vm, number, c_vcpu)
        self._open_stats()

    def _release(self) -> None:
        lib.abi_unmap_run(self.run_page, self._size)
        super()._release()

    def inner_exit_counts(self) -> dict[str, int]:
        """KVM's own counters whose names end in "exits": what the kernel half served and passed on."""
        return {name: v for name, v in self.stats().items() if isinstance(v, int) and name.endswith("exits")}
