"""Whether there is a GPU is seen without its driver, and without torch."""

import sys

import pytest

from dyhead_lab.hardware import has_nvidia_gpu, runs_on


def device(root, name, vendor, kind):
    """A device of the PCI bus as Linux shows it."""
    folder = root / "sys/bus/pci/devices" / name
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n", encoding="ascii")
    (folder / "class").write_text(f"{kind}\n", encoding="ascii")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows shows no such files")
class TestNvidia:
    @pytest.mark.parametrize(
        ("vendor", "kind", "expected"),
        [
            ("0x10de", "0x030000", True),  # drives a display
            ("0x10de", "0x030200", True),  # drives none, as in data centres
            ("0x10de", "0x020000", False),  # a network card of the same vendor
            ("0x8086", "0x030000", False),  # Intel's graphics
        ],
    )
    def test_a_gpu_on_the_bus_needs_no_driver_to_be_seen(self, tmp_path, vendor, kind, expected):
        device(tmp_path, "0000:00:01.0", "0x8086", "0x060000")
        device(tmp_path, "0000:01:00.0", vendor, kind)
        assert has_nvidia_gpu(tmp_path) is expected

    @pytest.mark.parametrize("path", ["dev/nvidia0", "usr/lib/wsl/lib/libcuda.so.1"])
    def test_a_container_and_windows_lend_one_without_a_bus(self, tmp_path, path):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
        assert has_nvidia_gpu(tmp_path)

    def test_a_driver_without_a_card_is_none(self, tmp_path):
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidiactl").touch()
        assert not has_nvidia_gpu(tmp_path)

    def test_a_device_that_cannot_be_read_is_none(self, tmp_path):
        (tmp_path / "sys/bus/pci/devices/0000:01:00.0").mkdir(parents=True)
        assert not has_nvidia_gpu(tmp_path)


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((7, 5), ["sm_75"], True),
        ((8, 9), ["sm_86"], True),  # machine code runs on a later minor version
        ((8, 0), ["sm_86"], False),  # but not on an earlier one
        ((9, 0), ["sm_86"], False),  # nor on another major version
        ((12, 0), ["sm_90", "compute_90"], True),  # intermediate code runs on everything newer
        ((8, 0), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),  # bound to 12.0
    ],
)
def test_which_code_runs_on_which_card(capability, architectures, expected):
    assert runs_on(capability, architectures) is expected
