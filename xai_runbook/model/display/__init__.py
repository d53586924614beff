"""Display of plain data: plans as text and HTML, and the HTML fragments and colours that every display uses."""
