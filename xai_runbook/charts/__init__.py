"""Charts of a query's frame, with its limit. matplotlib is imported when a chart is drawn.

Every axis has a unit, times are UTC, a gap in the samples is a gap in the line, and an empty chart says why it is
empty. The colours are safe for colour-blind readers, and each line is labelled at its end.
"""

from __future__ import annotations

from xai_runbook.charts.alerts import alert_timeline
from xai_runbook.charts.shapes import bars, live, scatter, tree
from xai_runbook.charts.timelines import MAX_LINES, heights, timeline

__all__ = ["MAX_LINES", "alert_timeline", "bars", "heights", "live", "scatter", "timeline", "tree"]
