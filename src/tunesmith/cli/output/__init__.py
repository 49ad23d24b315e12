"""What commands print: tables, bars, the HTML report."""
