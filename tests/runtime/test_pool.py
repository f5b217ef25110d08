import pytest

from runtime.device import HostPool
from runtime.errors import DeviceError


def test_a_pool_of_the_host_starts_as_zeros_and_is_bound_in_place() -> None:
    pool = HostPool((2, 3, 2, 1, 4, 8))
    value = pool._value
    assert value.shape() == [2, 3, 2, 1, 4, 8]
    assert value.data_ptr() == pool._memory.ctypes.data
    assert not value.numpy().any()


@pytest.mark.parametrize("pages", [10**9, 10**18])
def test_a_pool_that_is_larger_than_all_memory_is_refused_with_its_size(pages: int) -> None:
    with pytest.raises(DeviceError, match=r"takes \d+ MiB, more than there is.*--cache-tokens"):
        HostPool((30, pages, 2, 3, 16, 64))
