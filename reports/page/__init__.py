"""The page of a sweep: one self-contained HTML file, made from the rows of one or several stores."""
