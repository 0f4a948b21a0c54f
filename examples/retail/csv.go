package retail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oncemill/oncemill/internal/problem"
)

// The columns that a file must have, by name, in the order of the fields of row.
var columnNames = [...]string{"InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country"}

const (
	invoiceColumn = iota
	stockColumn
	descriptionColumn
	quantityColumn
	priceColumn
	customerColumn
	countryColumn
)

// Reader reads order lines from a CSV file, plain or gzip, one at a time. It is strict: the first line that cannot be
// understood ends it with an error that names the line and the cure. It keeps the invoice numbers seen so far.
type Reader struct {
	name    string
	csv     *csv.Reader
	columns [len(columnNames)]int // where each column of columnNames is in the file
	lines   int                   // data lines read
	// customers holds the customer of each invoice: an invoice of two customers would be built in two partitions.
	customers map[string]string
	err       error // the error that ended the reader, returned ever after
}

// NewReader reads the header of the file and returns a reader of its lines. The name is used in errors only. Whether the
// file is compressed is decided by its first bytes.
func NewReader(name string, file io.Reader) (*Reader, error) {
	buffered := bufio.NewReaderSize(file, 64<<10)
	if magic, err := buffered.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, unreadable(name, err)
		}
		buffered = bufio.NewReaderSize(unzipped, 64<<10)
	}
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		if _, err := buffered.Discard(len(mark)); err != nil {
			return nil, unreadable(name, err)
		}
	}
	r := &Reader{name: name, csv: csv.NewReader(buffered), customers: make(map[string]string)}
	r.csv.ReuseRecord = true
	header, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, problem.New(problem.DecodeFailed, name, "the file is empty").WithCure("%s", headerCure)
	}
	if err != nil {
		return nil, r.refuse(err)
	}
	if err := r.findColumns(header); err != nil {
		return nil, err
	}
	return r, nil
}

var headerCure = "let the first line name the columns " + strings.Join(columnNames[:], ",")

func (r *Reader) findColumns(header []string) error {
	var missing []string
	for i, wanted := range columnNames {
		r.columns[i] = -1
		for j, name := range header {
			if name == wanted {
				r.columns[i] = j
				break
			}
		}
		if r.columns[i] < 0 {
			missing = append(missing, wanted)
		}
	}
	if missing == nil {
		return nil
	}
	return problem.New(problem.DecodeFailed, r.place(1), "the header lacks %s", strings.Join(missing, ", ")).
		WithCure("%s", headerCure)
}

// Next returns the next line, io.EOF after the last one, or a *problem.Error. An error is final.
func (r *Reader) Next() (Line, error) {
	if r.err != nil {
		return Line{}, r.err
	}
	line, err := r.next()
	r.err = err
	return line, err
}

func (r *Reader) next() (Line, error) {
	row, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		if r.lines == 0 {
			return Line{}, problem.New(problem.DecodeFailed, r.name, "the file has a header but no lines").
				WithCure("give a file with order lines")
		}
		return Line{}, io.EOF
	}
	if err != nil {
		return Line{}, r.refuse(err)
	}
	place, _ := r.csv.FieldPos(0)
	if r.lines++; r.lines > MaxLines {
		return Line{}, problem.New(problem.DecodeFailed, r.place(place), "the file has more than %d lines", MaxLines).
			WithCure("split the file")
	}
	line, err := r.parse(row)
	if err != nil {
		return Line{}, problem.Wrap(problem.DecodeFailed, r.place(place), err).
			WithCure("correct this line or remove it; quantities are whole numbers, prices decimal pounds")
	}
	known, seen := r.customers[line.Invoice]
	if seen && known != line.Customer {
		return Line{}, problem.New(problem.DecodeFailed, r.place(place), "invoice %s belongs to customer %q here and to %q above",
			line.Invoice, line.Customer, known).WithCure("give all lines of an invoice the same customer, or none")
	}
	if !seen {
		r.customers[strings.Clone(line.Invoice)] = strings.Clone(line.Customer)
	}
	return line, nil
}

func (r *Reader) parse(row []string) (Line, error) {
	text := func(column int) string { return toUTF8(row[r.columns[column]]) }
	line := Line{
		Number:      r.lines,
		Invoice:     text(invoiceColumn),
		StockCode:   text(stockColumn),
		Description: text(descriptionColumn),
		Customer:    text(customerColumn),
		Country:     text(countryColumn),
	}
	var err error
	if line.Quantity, err = strconv.ParseInt(row[r.columns[quantityColumn]], 10, 64); err != nil {
		return Line{}, fmt.Errorf("column Quantity: %q is not a whole number", row[r.columns[quantityColumn]])
	}
	if line.UnitPrice, err = ParseMoney(row[r.columns[priceColumn]]); err != nil {
		return Line{}, fmt.Errorf("column UnitPrice: %w", err)
	}
	return line, line.Validate()
}

// toUTF8 returns s if it is UTF-8, and else s read as Latin-1, the encoding that exports of the data set use for the pound
// sign. JSON would silently replace such a byte and change the message.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func (r *Reader) place(line int) string { return fmt.Sprintf("%s line %d", r.name, line) }

// refuse turns an error of the CSV reader, or of what it reads from, into ours.
func (r *Reader) refuse(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return unreadable(r.name, err)
	}
	cure := "double the quotes inside a quoted field, and close the quote"
	if errors.Is(err, csv.ErrFieldCount) {
		cure = "give the line as many fields as the header has; quote a field that contains a comma"
	}
	return problem.Wrap(problem.DecodeFailed, r.place(parse.Line), parse.Err).WithCure("%s", cure)
}

func unreadable(name string, err error) error {
	return problem.Wrap(problem.DecodeFailed, name, err).WithCure("give a complete CSV file, plain or gzip")
}

// ReadAll returns the lines that are left.
func (r *Reader) ReadAll() ([]Line, error) {
	var lines []Line
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
}

// ReadFile returns all lines of a file.
func ReadFile(path string) ([]Line, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, path, err).WithCure("give the path of a readable CSV file")
	}
	defer file.Close()
	reader, err := NewReader(path, file)
	if err != nil {
		return nil, err
	}
	return reader.ReadAll()
}
