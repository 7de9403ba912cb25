"""`qom convert`: command lines and files of other formats become machine files that say the same."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from random_configs import bare

from qom.cli import main as qom_main
from qom.cli import qemu_options
from qom.cli.commands.convert import convert
from qom.cli.options import ALONE, OPTIONS, WITH_ARGUMENT, CommandLine
from qom.config import load
from qom.errors import QomError

UUID = "12345678-1234-1234-1234-123456789abc"

LINES = [
    "",
    "disk.img",
    "-M pc -m 512 -smp 4 -nographic",
    "-nographic -serial null",
    "-nographic -serial null -monitor none",
    "-nographic -monitor unix:/tmp/x,server=on,wait=off",
    "-nographic -parallel mon:stdio",
    "-machine pc,accel=kvm:simulated,kernel-irqchip=split,a20-gate=off -cpu qemu64,+sse4.1,-apic,x2apic=off",
    "-accel kvm,kernel-irqchip=off -accel simulated -enable-kvm -no-reboot -no-shutdown -S -nodefaults",
    "-smp 8,sockets=2,cores=2,threads=2,maxcpus=8 -m size=1.5G",
    "-smp 8 -numa node,cpus=0,cpus=2-4 -numa node,cpus=1,cpus=5,cpus=6-7",
    "-smp 4 -m 1G -numa node,cpus=0-1,mem=512M -numa node,nodeid=3,mem=512M -numa dist,src=0,dst=3,val=20"
    " -numa cpu,node-id=3,core-id=2 -numa cpu,node-id=3,core-id=3",
    "-bios fw.bin -kernel bzImage -initrd initrd.img -append 'console=ttyS0 root=/dev/sda quiet ${x} {y} \"z\"'",
    "-boot order=cd,once=d,menu=on,splash-time=100,strict=off",
    "-hda a.img -hdb b,c.img -hdc c.img -hdd d.img -snapshot",
    "-drive file=a,,b.img,if=none,id=d0,readonly=on -device ide-hd,drive=d0,bus=ide.1,unit=0,serial=x",
    "-drive file=x.img,format=raw,bus=1,unit=1,snapshot=on -cdrom cd,1.iso",
    "-chardev socket,id=c0,path=/tmp/s,server,nowait -serial chardev:c0 -serial none -serial file:out.log -debugcon stdio",
    "-serial tcp:[::1]:4444,server=on,wait=off -serial unix:/tmp/x,server=on -serial pty -serial null",
    "-device isa-serial,id=s1,iobase=0x2f8,irq=3 -device isa-debugcon,iobase=0x402,chardev=d -chardev null,id=d",
    '-device \'{"driver": "isa-serial", "iobase": 760, "pacing": true}\'',
    "-object rng-random,id=rng0,filename=/dev/urandom -global isa-serial.irq=5 -global driver=x,property=y,value=a,,b",
    f"-name guest=vm1 -uuid {UUID} -D log.txt -d int,exits,guest_errors -trace ports",
    "-name guest=vm1,process=vm,debug-threads=on -pidfile vm.pid -daemonize -msg timestamp=on,guest-name=on -echr 20",
    "-rtc base=2006-06-17T16:01:21,clock=host -rtc driftfix=none -no-acpi -no-hpet -no-fd-bootchk -no-user-config",
    "-boot c,splash=a,,b.jpg,reboot-timeout=5 -action reboot=shutdown,panic=none -watchdog-action pause -L fw -L more",
    "-smbios type=1,product=X,uuid="
    + UUID
    + " -smbios type=11,value=a,value=b -smbios type=11,value=c -smbios file=s.bin"
    " -fw_cfg opt/a,string=x -fw_cfg name=opt/b,file=f -acpitable sig=SSDT,rev=2,data=a:b -acpitable file=t.aml",
    "-option-rom a.rom -option-rom b.rom,bootindex=3 -add-fd fd=7,set=1,opaque=rdwr:x -add-fd fd=8,set=1",
    "-set device.s1.irq=5 -device isa-serial,id=s1 -set chardev.c.size=4k -chardev ringbuf,id=c -set drive.d.file=b"
    " -drive id=d,file=a,if=none",
    "-accel qtest -qtest-log none -qtest unix:a -qtest unix:b,server=on,wait=off -serial null -chardev null,id=n",
    "-fda a.img -fdb b.img -parallel file:lpt.txt -parallel none -parallel chardev:c -chardev null,id=c",
    "-blockdev driver=raw,node-name=d,file=f -blockdev driver=file,node-name=f,filename=a,locking=off -device ide-hd,drive=d",
    """-blockdev '{"driver":"raw","node-name":"d","file":{"driver":"file","node-name":"i","filename":"a"},"read-only":true}'""",
    "-blockdev driver=raw,node-name=d,read-only=on,file.driver=file,file.filename=a,,b,cache.direct=on",
    "-drive if=floppy,file=a,readonly=on -drive if=floppy,unit=1,file=b,id=f -parallel stdio",
    "-qmp unix:/tmp/q,server=on,wait=off -qmp-pretty tcp:h:1 -chardev null,id=m -mon chardev=m,mode=control,pretty=on"
    " -preconfig -qtest unix:/tmp/t,server=on,wait=off -qtest-log none",
    "-chardev ringbuf,id=c,mux=on -serial chardev:c -mon c -serial mon:telnet::1,server=on,wait=off -debugcon udp:h:1@:2",
    "-display none -vga none -monitor none -parallel none -net none -nic none -serial stdio",
]


@pytest.mark.parametrize("format", ["toml", "json", "yaml"])
@pytest.mark.parametrize("line", LINES)
def test_a_converted_file_says_what_the_command_line_does(line: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / f"vm.{format}"
    assert qom_main.main(["convert", "-o", str(path), "qemu-system-x86_64", *shlex.split(line)]) == 0
    wanted = bare(convert(shlex.split(line)))
    assert bare(load(path)) == wanted
    if "-cdrom" not in line:
        assert wanted == bare(CommandLine().parse(shlex.split(line)).builder.finish())


def test_a_dash_is_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qom_main.main(["convert", "-o", "-", "-M", "none"]) == 0
    assert capsys.readouterr().out == '[machine]\ntype = "none"\n'
    assert qom_main.main(["graph", "-o", "-", "-M", "none"]) == 0
    assert capsys.readouterr().out.startswith("<svg")
    assert not list(tmp_path.iterdir())


def test_every_option_is_in_one_of_them() -> None:
    said = {word.lstrip("-") for line in LINES for word in shlex.split(line) if word.startswith("-")}
    not_of_a_machine = {"help", "version", "readconfig", "var"}
    assert {o.name for o in OPTIONS if not {o.name, *o.aliases} & said} == not_of_a_machine


def test_files_convert_between_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "vm.cfg"
    source.write_text('[machine]\n  type = "none"\n[device "a"]\n  driver = "x"\n  iobase = "0x10"\n')
    for name in ("b.toml", "c.json", "d.yaml", "e.yml"):
        target = tmp_path / name
        assert qom_main.main(["convert", str(source), "-o", str(target)]) == 0
        assert bare(load(target)) == bare(load(source))
        source = target
    assert qom_main.main(["convert", "--format", "json", str(source)]) == 0
    assert capsys.readouterr().out == (tmp_path / "c.json").read_text()
    (tmp_path / "v.toml").write_text('name = "${x}"\n[variables]\nx = "a"\n')
    assert qom_main.main(["convert", str(tmp_path / "v.toml"), "--var", "x=b"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == 'name = "b"'


def test_one_string_is_a_command_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["convert", "/usr/bin/qemu-system-x86_64 -M none \\\n -name 'a b' -nodefaults"]) == 0
    assert capsys.readouterr().out == 'name = "a b"\nnodefaults = true\n\n[machine]\ntype = "none"\n'
    assert qom_main.main(["convert", "--", "-M", "none", "-nodefaults"]) == 0
    assert capsys.readouterr().out == 'nodefaults = true\n\n[machine]\ntype = "none"\n'


WRONG = (
    "-vga cirrus -usb -netdev user,id=n -M none -nodefaults -frob x -device isa-serial -cpus 3 -sandbox on"
    " -object memory-backend-file,id=m,size=1G,mem-path=/m"
)
LEFT_OUT = [
    "-vga cirrus: the display adapter 'cirrus' is not modelled: expected std or none",
    "-usb: is not modelled",
    "-netdev user,id=n: is not modelled",
    "-frob x: unknown option",
    "-cpus 3: unknown option; did you mean 'cpu'?",
    "-sandbox on: is not modelled",
    "-object memory-backend-file,id=m,size=1G,mem-path=/m: object type 'memory-backend-file': memory back ends are not"
    " modelled: expected the guest's memory by -m SIZE",
]


def test_what_is_not_modelled_is_named_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["convert", *shlex.split(WRONG)]) == 1
    assert capsys.readouterr() == ("", f"qom: convert: {'; '.join(LEFT_OUT)}\n")
    assert qom_main.main(["convert", "--skip-unknown", *shlex.split(WRONG)]) == 0
    out, err = capsys.readouterr()
    assert err == "".join(f"qom: left out: {text}\n" for text in LEFT_OUT)
    assert out == 'nodefaults = true\n\n[machine]\ntype = "none"\n\n[[device]]\ndriver = "isa-serial"\n'


def test_what_is_wrong_is_wrong_whatever_is_skipped() -> None:
    with pytest.raises(QomError) as error:
        convert(shlex.split("-m lots -usb -smp 4,cores=3 -device id=x -uuid 1"), skip=True)
    assert str(error.value) == (
        "convert: -m lots: memory: 'size' cannot be 'lots': expected a size, such as 512M or 1.5G;"
        " -device id=x: device: 'driver' is required;"
        " -smp 4,cores=3: smp: sockets (1) * cores (3) * threads (1) is 3: expected 4, the number of cpus;"
        " -uuid 1: uuid cannot be '1': expected 8-4-4-4-12 hexadecimal digits"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [],
            "convert: nothing to convert: expected [-o FILE] [--format F] [--skip-unknown] [--] QEMU-COMMAND-LINE, or a FILE",
        ),
        (["-o"], "-o: an argument is missing"),
        (["--format", "xml", "-S"], "--format: cannot be 'xml': expected one of toml, json, yaml"),
        (["-o", "x.txt", "-S"], "x.txt: cannot be written: expected a name that ends in .toml, .json, .yaml, .yml"),
        (["-M"], "-M: an argument is missing"),
        (["-smbios"], "-smbios: an argument is missing"),
        (["qemu-system-arm", "-S"], "convert: qemu-system-arm is not modelled: expected qemu-system-x86_64"),
        (["-name 'x"], "convert: not a command line: no closing quotation"),
        (["--var", "a=1", "-S"], "--var: a command line declares no variables: expected a FILE"),
        (["/no/such.toml"], "/no/such.toml: cannot be read: No such file or directory"),
        (["-device", "help"], "convert: -device help: asks for help: expected a machine"),
    ],
)
def test_wrong_arguments(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["convert", *argv]) == 1
    assert capsys.readouterr() == ("", f"qom: {message}\n")


def test_processors_of_a_node_add_up() -> None:
    made = convert(shlex.split("-smp 4 -numa node,cpus=0,cpus=2-3 -numa node,cpus=1"))
    assert [node.cpus for node in made.numa] == [[0, 2, 3], [1]]


def test_options_of_plugins_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from qom.cli import options
    from qom.extensions import SystemOption

    def add(builder: Any, text: str, origin: str) -> None:
        builder.device({"driver": "isa-stopwatch", "limit": text}, origin)

    class Session:
        def registry(self) -> Any:
            return self

        extensions = type("Extensions", (), {"options": {"stopwatch": SystemOption("stopwatch", "N", "add one", add)}})

    monkeypatch.setattr(options, "current", Session)
    made = convert(["-stopwatch", "-5", "-nodefaults"])
    assert [(d.driver, d.props) for d in made.devices] == [("isa-stopwatch", {"limit": "-5"})] and made.nodefaults


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
def test_qemus_options_are_all_known() -> None:
    text = subprocess.run(["qemu-system-x86_64", "-help"], capture_output=True, text=True, timeout=60).stdout
    names = {
        n for line in re.findall(r"^-\S+", text, re.MULTILINE) for n in re.findall(r"-+([A-Za-z][\w-]*)", line)[:1]
    }
    ours = WITH_ARGUMENT | ALONE
    assert names - ours - qemu_options.WITH_ARGUMENT - qemu_options.ALONE - set(qemu_options.SPELLINGS) == set()
    assert not ours & (qemu_options.WITH_ARGUMENT | qemu_options.ALONE)
