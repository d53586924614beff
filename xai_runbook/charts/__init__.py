"""A few shapes of chart: what a frame looks like beside its limit. matplotlib is imported when one is drawn.

Every axis has its unit, times are UTC, a gap in the samples is a gap in the line, and where there is nothing to draw
the chart says why. Colours are told apart by colour-blind eyes, and lines are named where they end.
"""

from __future__ import annotations

from xai_runbook.charts.alerts import alert_timeline
from xai_runbook.charts.shapes import bars, live, scatter, tree
from xai_runbook.charts.timelines import MOST_LINES, heights, timeline

__all__ = ["MOST_LINES", "alert_timeline", "bars", "heights", "live", "scatter", "timeline", "tree"]
