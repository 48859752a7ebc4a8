//! A table as a terminal and Markdown both show it.

use std::fmt;

pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// One cell a column; the first names the row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = self
            .header
            .iter()
            .enumerate()
            .map(|(column, name)| {
                cells(column).map(|cell| cell.chars().count()).fold(name.chars().count(), usize::max)
            })
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[&str]| -> fmt::Result {
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "| {cell:<width$} |")?;
                } else {
                    write!(f, " {cell:>width$} |")?;
                }
            }
            writeln!(f)
        };
        line(f, &self.header)?;
        for (column, width) in widths.iter().enumerate() {
            let dashes = "-".repeat(*width);
            if column == 0 {
                write!(f, "| {dashes} |")?;
            } else {
                write!(f, " {}: |", &dashes[1..])?;
            }
        }
        writeln!(f)?;
        self.rows.iter().try_for_each(|row| line(f, &row.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// A whole number with its thousands apart.
pub fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What may not have been measured.
pub fn maybe(value: Option<f64>, show: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["", "events/s"]);
        table.row(vec!["edge".to_owned(), whole(1_234_567.0)]);
        table.row(vec!["a limit".to_owned(), maybe(None, whole)]);
        let expected = "\
|         |  events/s |
| ------- | --------: |
| edge    | 1,234,567 |
| a limit |         – |
";
        assert_eq!(table.to_string(), expected);
        assert_eq!([whole(-123.0), whole(999.4), whole(1000.0)], ["-123", "999", "1,000"]);
    }
}
