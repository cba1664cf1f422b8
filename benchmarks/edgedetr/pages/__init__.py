"""Pages that need nothing but themselves: one look, and charts as SVG."""
