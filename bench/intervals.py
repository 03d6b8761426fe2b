"""Intervals of what is measured in pairs."""
import math
import statistics


def student(freedom):
    """The 97.5 % quantile of Student's distribution, from the normal one's by Cornish and Fisher's series (Abramowitz
    and Stegun 26.7.5); from 5 degrees of freedom on right to 1 %."""
    z = 1.959964
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / freedom**(power + 1) for power, term in enumerate(terms))


def ratio(first, second):
    """Mean of `first` over mean of `second`, pairs of windows, with its 95 % interval: by the delta method, each pair
    counts as its distance from the line through the means."""
    value = statistics.fmean(first) / statistics.fmean(second)
    distances = [a - value * b for a, b in zip(first, second)]
    error = statistics.stdev(distances) / math.sqrt(len(distances)) / statistics.fmean(second)
    width = student(len(distances) - 1) * error
    return f"{value:.2f} ({value - width:.2f} to {value + width:.2f})"
