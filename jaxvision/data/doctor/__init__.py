"""Examines a detection data set before training: `python -m jaxvision.data.doctor ROOT`.

The commonest reason for an average precision of zero on one's own data is in the data: ids that do
not match, boxes in another order or unit, pictures that EXIF turns. Every finding has its mend.
"""

from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding
from jaxvision.data.doctor.report import Report, examine

__all__ = ["ERROR", "OK", "WARN", "Finding", "Report", "examine"]
