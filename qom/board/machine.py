"""BoardMachine: the machine type that is built from a board.

Every machine type that comes from a board file derives from it.  A Python class may derive from it too, abstract, to
contribute what data cannot say, and board files then name it in `extends`.

A type's class fact `described` is what all the files it is made of come to; a machine's `board` has the changes of its
configuration put over that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from qom.board.assembly import Assembly
from qom.board.changes import change
from qom.board.parts import EMPTY, Board, BoardCpus, BoardRegion
from qom.board.statics import board_buses, changed, misfits
from qom.config.check import all_models, unreadable, wrong_with_cpu_option
from qom.errors import ConfigError, QomError, did_you_mean
from qom.options import Report, at, placed
from qom.registry import GlobalProperty, type_init
from qom.vm.machine import Machine

if TYPE_CHECKING:
    from qom.board.files import Version
    from qom.config import ChardevEntry, MachineConfig
    from qom.options import Options
    from qom.registry import TypeRegistry
    from qom.vm.cpu import Cpu

__all__ = ["BoardMachine"]

IMAGE_MAX: Final = 256 << 20  # bytes read of an image
LAST_APIC_ID: Final = 254


@type_init("board-machine", abstract=True)
class BoardMachine(Machine):
    """A machine whose parts, places and lines are data.

    Class facts: `described`, its board; `versions`, the versions of the board from the newest down to this one;
    `takes_kernel`, whether a kernel in the configuration is of use.  `default_cpu_type` may be a model's short name.
    """

    described: ClassVar[Board] = EMPTY
    versions: ClassVar[tuple[Version, ...]] = ()
    takes_kernel: ClassVar[bool] = False

    board: Board
    cpu_options: dict[str, bool | int | str]
    assembly: Assembly | None  # while the machine is realized: how it came together

    def instance_init(self) -> None:
        """Give the parts what this version says; what the user says comes later and wins."""
        self.board = type(self).described
        self.cpu_options = {}
        self.assembly = None
        changes = [
            GlobalProperty(driver, name, value, origin, optional=True)
            for version in type(self).versions  # newest first, so that the older one's word comes last and counts
            for driver, name, value, origin in version.changes
        ]
        self.registry.globals[:0] = changes

    @staticmethod
    def type_of_file(registry: TypeRegistry, path: str) -> str:
        """The machine type of the board file at `path`, registered in `registry` if it is new.

        Raises:
            QomError: the file is wrong, or its name is another board's already.
        """
        from qom.board.types import machine_type

        return machine_type(registry, path)

    @staticmethod
    def check_file(path: str, registry: TypeRegistry) -> list[ConfigError]:
        """Everything wrong with the board file at `path`, with its places."""
        from qom.board.check import check_board

        return check_board(path, registry)

    # -- configuration

    def configure_from(self, config: MachineConfig) -> None:
        """Take the processor model, and what the configuration changes of the board."""
        super().configure_from(config)
        if config.parts or config.wires or config.regions:
            self.board = change(self.board, config.parts, config.wires, config.regions)
        for refusal in self.refusals(config):
            raise refusal
        choice, cpus = config.cpu, self.board.cpus
        if choice is not None and cpus is not None:
            self.set("cpu-type", f"{choice.model}-{cpus.of}")
            self.cpu_options.update(choice.features)

    def check_config(self, config: MachineConfig, report: Report) -> None:
        """Also what is changed of the board, and what the board has no place for."""
        super().check_config(config, report)
        from qom.board.check import wrong_with

        if config.parts or config.wires or config.regions:
            self.board = changed(self.board, config, report)
            for error in wrong_with(self.board, self.registry, set(self.properties())):
                report(error)
        for error in (*self.refusals(config), *misfits(self.board, self.type_name, config)):
            report(error)
        for region in self.board.regions:
            if region.property == "firmware":
                named, origin = config.firmware, config.origin_of("firmware")
            else:
                named, origin = config.machine.props.get(str(region.property)), config.machine.origin
                origin = at(origin, region.property)
            if isinstance(named, str) and named:
                try:
                    self.check_image(region, named)
                except QomError as error:
                    report(ConfigError(str(error), origin))

    def check_image(self, region: BoardRegion, name: str) -> None:
        """Look whether the image that the configuration names for a ROM is there.

        Raises:
            QomError: it is not, or cannot be read.
        """
        if (reason := unreadable(name)) is not None:
            raise QomError(f"region '{region.name}': image {name} cannot be read: {reason}")

    def known_buses(self) -> dict[str, str]:
        """The buses of the board, by name, with their types."""
        return board_buses(self.board, self.registry)

    def has_place_for(self, chardev: ChardevEntry) -> bool:
        """Whether somebody asked for the back end, or the serial port it is for has a place on the board."""
        config = self.vm.config
        id = chardev.id.removesuffix("-base")  # of what a multiplexer shares
        if chardev.origin not in ("", config.origin_of("nographic")) or id not in config.serials:
            return True
        use = f"serial[{config.serials.index(id)}]"
        return any(part.use == use for part in self.board.parts)

    def refusals(self, config: MachineConfig) -> Iterator[ConfigError]:
        """An error for everything in a configuration that this machine has no use for."""
        if config.kernel is not None and not self.takes_kernel:
            yield ConfigError(f"{self.type_name} cannot start a kernel by itself", config.origin_of("kernel"))
        takes_firmware = any(region.property == "firmware" for region in self.board.regions)
        if config.firmware is not None and not takes_firmware:
            yield ConfigError(f"{self.type_name} has no place for firmware", config.origin_of("firmware"))
        choice, cpus = config.cpu, self.board.cpus
        if choice is None:
            return
        if cpus is None:
            yield ConfigError(f"{self.type_name} has no processors: expected no processor model", choice.origin)
            return
        if cpus.fixed:
            text = f"the processor of {self.type_name} cannot be changed: expected no processor model"
            yield ConfigError(text, choice.origin)
            return
        known = {t.name: t for t in self.registry.types(cpus.of, abstract=False)}
        model = known.get(f"{choice.model}-{cpus.of}")
        if model is None:
            short = [n.removesuffix(f"-{cpus.of}") for n in known]
            hint = did_you_mean(choice.model, short)
            text = f"unknown processor model {choice.model!r}{hint}; {all_models(short)}"
            yield ConfigError(text, at(choice.origin, "model"))
            return
        for name, value in choice.features.items():
            if (wrong := wrong_with_cpu_option(model, name, value)) is not None:
                yield ConfigError(wrong, at(at(choice.origin, "features"), name))

    @property
    def changeable_parts(self) -> frozenset[str]:
        """The board's parts."""
        return frozenset(part.name for part in self.board.parts)

    # -- building

    def init(self) -> None:
        """Make and wire the parts."""
        self.assembly = Assembly(self, self.board)
        self.on_unrealize(self._taken_apart)
        self.assembly.run()

    def _taken_apart(self) -> None:
        self.assembly = None

    def make_memory(self, assembly: Assembly) -> None:
        """Lay the memory map; what lies in a part follows when the part is there."""
        assembly.memory.lay()

    def value(self, name: str) -> Any:
        """A value of the board, or a property, as its expressions see it; while the machine is realized."""
        assert self.assembly is not None
        return self.assembly.scope.look(name)

    def make_cpus(self) -> None:
        """Make the processors, by index."""
        for index in range(self.smp_cpus):
            self.new_cpu(index)

    @classmethod
    def cpu_type_of(cls, registry: TypeRegistry, model: str) -> str:
        """The name of the type of a processor model of this board, which may be named in short."""
        cpus = cls.described.cpus or BoardCpus()
        found = registry.find_any((f"{model}-{cpus.of}", model))
        return model if found is None else found.name

    def cpu_place(self, index: int) -> dict[str, int]:
        """Where processor `index` is: "socket-id", "core-id", "thread-id", and "node-id" with NUMA; {} if nowhere."""
        if self.board.cpus is None:
            return {}
        threads, cores = self.smp_threads, self.smp_cores
        place = {
            "socket-id": index // (threads * cores),
            "core-id": index // threads % cores,
            "thread-id": index % threads,
        }
        nodes = {number: node.nodeid for node in self.vm.config.numa for number in node.cpus}
        return {"node-id": nodes[index], **place} if index in nodes else place

    def cpu_type_name(self) -> str:
        """The type of the processors: what the configuration says, else the board's own."""
        cpus = self.board.cpus or BoardCpus()
        name = self.cpu_type or type(self).default_cpu_type
        if not name:
            raise ConfigError(
                f"{self.path}: no processor model: expected 'default-cpu' in [board], or -cpu", cpus.origin
            )
        found = self.registry.find_any((f"{name}-{cpus.of}", name))
        if found is None or found.abstract or not found.is_a("cpu"):
            short = [t.name.removesuffix(f"-{cpus.of}") for t in self.registry.types(cpus.of, abstract=False)]
            raise ConfigError(f"{self.path}: unknown processor model {name!r}{did_you_mean(name, short)}", cpus.origin)
        return found.name

    def apic_id_of(self, place: dict[str, int]) -> int:
        """The local APIC id of the processor that is at `place` (`cpu_place`)."""
        thread_bits, core_bits = (self.smp_threads - 1).bit_length(), (self.smp_cores - 1).bit_length()
        return (place["socket-id"] << core_bits | place["core-id"]) << thread_bits | place["thread-id"]

    def new_cpu(self, index: int) -> None:
        """Make processor `index`; setting its `realized` creates its thread."""
        cpus = self.board.cpus
        assert cpus is not None
        cpu = self._make_cpu(index)
        with placed(cpus.origin, "name"):
            self.add_child(cpus.name.replace("{index}", str(index)), cpu)
        self._hand_cpu(cpu)
        self.cpus.append(cpu)
        cpu.set("realized", True)

    def add_cpu(self, driver: str, id: str | None, props: Options) -> Cpu:
        """Make the processor of a place that has none; it waits for its INIT.

        Args:
            driver: its type, which has to be that of the others.
            id: its name under /machine/peripheral; None for one made from its type and number.
            props: where it is ("socket-id", "core-id", "thread-id"), and further properties.

        Raises:
            ConfigError: another type, or no such place, or there is one already.
        """
        if self.board.cpus is None or not type(self).hotpluggable_cpus:
            raise ConfigError("machine does not support hot-plugging CPUs")
        wanted = self.cpu_type_name()
        if self.registry.get(driver).name != wanted:
            raise ConfigError(f"Invalid CPU type, expected cpu type: '{wanted}'")
        given, sizes = {name.replace("_", "-"): value for name, value in props.items()}, self._places()
        for name, size in sizes.items():
            if name not in given:
                raise ConfigError(f"CPU {name} is not set")
            try:
                value = given[name] = int(given[name])
            except (TypeError, ValueError):
                raise ConfigError(f"CPU {name} cannot be {given[name]!r}: expected an integer") from None
            if not 0 <= value < size:
                raise ConfigError(f"Invalid CPU {name}: {value} must be in range 0:{size - 1}")
        index = (given["socket-id"] * self.smp_cores + given["core-id"]) * self.smp_threads + given["thread-id"]
        if any(other.index == index for other in self.cpus):
            raise ConfigError(f"CPU[{index}] with APIC ID {self.apic_id_of(self.cpu_place(index))} exists")
        cpu = self._make_cpu(index)
        home = self.vm.root.container("/machine/peripheral" if id is not None else "/machine/peripheral-anon")
        if id is not None:
            home.add_child(id, cpu)
        else:
            home.add_auto(cpu)
        try:
            for name, value in given.items():
                cpu.set(name, value)
            self._hand_cpu(cpu)
            cpu.set("realized", True)
        except BaseException:
            cpu.unparent()
            raise
        self.cpus = sorted([*self.cpus, cpu], key=lambda each: each.index)  # a new list: others may go through the old
        return cpu

    def possible_apic_ids(self) -> list[int]:
        """The local APIC id of each place a processor may have, by index."""
        return [self.apic_id_of(self.cpu_place(index)) for index in range(self.vm.config.smp.maxcpus)]

    def _places(self) -> dict[str, int]:
        """How many sockets there may be, cores in each, threads in each of those."""
        sockets = self.vm.config.smp.maxcpus // (self.smp_cores * self.smp_threads)
        return {"socket-id": sockets, "core-id": self.smp_cores, "thread-id": self.smp_threads}

    def _make_cpu(self, index: int) -> Cpu:
        """Processor `index`, in no tree yet, with what its place and the configuration say."""
        threads, cores, place = self.smp_threads, self.smp_cores, self.cpu_place(index)
        apic_id = self.apic_id_of(place)
        if apic_id > LAST_APIC_ID:
            text = f"{self.path}: processor {index} would have APIC id {apic_id}: expected at most {LAST_APIC_ID}"
            raise ConfigError(text, self.vm.config.smp.origin)
        cpu: Any = self.registry.new(self.cpu_type_name())
        facts = {
            "index": index, "apic-id": apic_id, "node-id": 0, **place, "cores": cores, "threads": threads,
        }  # fmt: skip
        known = cpu.properties()
        for name, fact in facts.items():
            if name in known:
                cpu.set_default(name, fact)
        choice = self.vm.config.cpu
        with placed(choice.origin if choice is not None else ""):
            for name, value in self.cpu_options.items():
                cpu.set(name, value)
        cpu.chosen = choice is not None
        made: Cpu = cpu
        return made

    def _hand_cpu(self, cpu: Any) -> None:
        """Give a processor that is in the tree what it uses."""
        vm, cpus = self.vm, self.board.cpus
        assert cpus is not None
        cpu.accel, cpu.lock, cpu.cond = self.accel, vm.lock, vm.cpu_cond
        cpu.system, cpu.clock, cpu.system_bus = vm, vm.clock, self.system_bus
        if cpus.apic_bus is not None:
            assert self.assembly is not None
            cpu.apic_type = self.assembly.scope.roles["apic"]
            cpu.apic_bus = self.child(cpus.apic_bus)

    # -- images

    def image(self, region: BoardRegion) -> bytes:
        """What a ROM of the board holds: the image its property names, else the one beside the board file.

        Raises:
            ConfigError: there is none, it cannot be read, or it is not the one that the board means.
        """
        origin = self.image_origin(region)
        named = str(self.get(region.property)) if region.property is not None else ""
        if named:
            return _read_image(region, Path(named), origin)
        if region.file is None:
            raise ConfigError(f"region '{region.name}': no image: expected one in '{region.property}'", origin)
        data = _read_image(region, region.file, origin)
        if region.sha256 is not None and (digest := _sha256(data)) != region.sha256.lower():
            text = f"region '{region.name}': {region.file} has SHA-256 {digest}: expected {region.sha256}"
            raise ConfigError(text, at(region.origin, "sha256"))
        return data

    def image_origin(self, region: BoardRegion) -> str:
        """Where it was said which image a ROM holds."""
        config = self.vm.config
        if region.property == "firmware" and config.firmware is not None:
            return config.origin_of("firmware")
        if region.property is not None and region.property in config.machine.props:
            return at(config.machine.origin, region.property)
        return at(region.origin, "file" if region.file is not None else "property")


def _sha256(data: bytes) -> str:
    import hashlib  # few boards ask for it

    return hashlib.sha256(data).hexdigest()


def _read_image(region: BoardRegion, path: Path, origin: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(IMAGE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"region '{region.name}': image {path} cannot be read: {reason}", origin) from None
    if len(data) > IMAGE_MAX:
        raise ConfigError(f"region '{region.name}': image {path} is larger than {IMAGE_MAX >> 20}M", origin)
    return data
