import numpy as np

from chipfit.search import Domain, RandomSearch


def test_random_search_is_uniform_over_the_codes() -> None:
    counts = np.zeros((3, 4))
    for seed in range(1200):
        first, second = RandomSearch(Domain((3, 4)), seed).ask(1)[0]
        counts[first, second] += 1
    # 11 degrees of freedom: 31.3 is exceeded by one uniform sampler in a thousand; the seeds are fixed.
    assert ((counts - 100) ** 2 / 100).sum() < 31.3
