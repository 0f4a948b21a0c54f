package retail

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
)

// embeddedLines returns the lines of the embedded file. They are read once; nobody changes them.
var embeddedLines = sync.OnceValue(func() []Line {
	reader, err := Embedded()
	if err != nil {
		panic(err)
	}
	lines, err := reader.ReadAll()
	if err != nil {
		panic(err)
	}
	return lines
})

func TestEmbeddedFileIsTheOneTheReadmeDescribes(t *testing.T) {
	sum := sha256.Sum256(embedded)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), hex.EncodeToString(sum[:])) {
		t.Errorf("the README does not name the sha256 %x of the embedded file", sum)
	}
}

// count is a number that the README of the data states.
type count struct {
	what      string
	got, want int
}

func (c count) check(t *testing.T) {
	t.Helper()
	if c.got != c.want {
		t.Errorf("%d %s, want %d", c.got, c.what, c.want)
	}
}

func TestEmbeddedRowsHaveTheCountsOfTheReadme(t *testing.T) {
	unzipped, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n")[1:]
	seen := make(map[string]bool, len(rows))
	repeated, notASCII := 0, 0
	for _, row := range rows {
		if seen[row] {
			repeated++
		}
		seen[row] = true
		if strings.IndexFunc(row, func(r rune) bool { return r > 127 }) >= 0 {
			notASCII++
		}
	}
	count{"rows", len(rows), 50_062}.check(t)
	count{"repeated rows", repeated, 537}.check(t)
	count{"rows that are not ASCII", notASCII, 4}.check(t)
}

func TestEmbeddedLinesHaveTheCountsOfTheReadme(t *testing.T) {
	invoices, countries, stock := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	cancellations, anonymous, free := 0, 0, 0
	for _, line := range embeddedLines() {
		if !invoices[line.Invoice] && line.Cancelled() {
			cancellations++
		}
		invoices[line.Invoice], countries[line.Country], stock[line.StockCode] = true, true, true
		if line.UnitPrice <= 0 {
			free++
		}
		if line.Customer == "" {
			anonymous++
		}
	}
	count{"lines", len(embeddedLines()), 50_062}.check(t)
	count{"invoices", len(invoices), 2_342}.check(t)
	count{"cancellations", cancellations, 384}.check(t)
	count{"lines without customer", anonymous, 17_881}.check(t)
	count{"lines with a price of zero or less", free, 297}.check(t)
	count{"countries", len(countries), 24}.check(t)
	count{"stock codes", len(stock), 2_879}.check(t)
}

func TestEmbeddedCustomersHaveTheCountsOfTheReadme(t *testing.T) {
	type customer struct {
		orders         int
		firstCancelled bool
	}
	customers := make(map[string]*customer)
	invoices := make(map[string]bool)
	for _, line := range embeddedLines() {
		if line.Customer == "" || invoices[line.Invoice] {
			continue
		}
		invoices[line.Invoice] = true
		c := customers[line.Customer]
		if c == nil {
			c = &customer{firstCancelled: line.Cancelled()}
			customers[line.Customer] = c
		}
		if !line.Cancelled() {
			c.orders++
		}
	}
	begin, several, gifts := 0, 0, 0
	for _, c := range customers {
		if c.firstCancelled {
			begin++
		}
		if c.orders > 1 {
			several++
		}
		if c.orders > 0 {
			gifts++
		}
	}
	count{"customers", len(customers), 1_041}.check(t)
	count{"customers that begin with a cancellation", begin, 116}.check(t)
	count{"customers with several orders", several, 317}.check(t)
	count{"customers with a gift", gifts, 975}.check(t)
}

const header = "InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID,Country\n"

func readText(text string) ([]Line, error) {
	reader, err := NewReader("f.csv", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return reader.ReadAll()
}

func TestReaderUnderstandsWhatExportsLookLike(t *testing.T) {
	want := Line{
		Number: 1, Invoice: "536365", StockCode: "85123A", Description: `HEART, "WHITE"`, Quantity: -6,
		UnitPrice: 255_000, Customer: "17850", Country: "France",
	}
	plain := `536365,85123A,"HEART, ""WHITE""",-6,2.55,17850,France`
	for name, text := range map[string]string{
		"plain":                header + plain + "\n",
		"no newline at end":    header + plain,
		"carriage returns":     strings.ReplaceAll(header, "\n", "\r\n") + plain + "\r\n",
		"byte order mark":      "\ufeff" + header + plain,
		"gzip":                 zipped(t, header+plain),
		"gzip with mark":       zipped(t, "\ufeff"+header+plain),
		"empty lines":          header + "\n\n" + plain + "\n\n",
		"other columns, order": "Country,InvoiceDate,InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID\nFrance,2010-12-01," + strings.TrimSuffix(plain, ",France"),
	} {
		lines, err := readText(text)
		if err != nil || len(lines) != 1 || lines[0] != want {
			t.Errorf("%s: %+v, %v", name, lines, err)
		}
	}
}

func TestReaderReadsLatin1AndKeepsUTF8(t *testing.T) {
	lines, err := readText(header + "1,a,Voucher \xa340.00,1,1,,X\n1,b,Voucher £40.00,1,1,,X\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if line.Description != "Voucher £40.00" {
			t.Errorf("line %d: %q", line.Number, line.Description)
		}
	}
	if got := embeddedLines()[38_248].Description; got != "Dotcomgiftshop Gift Voucher £40.00" {
		t.Errorf("embedded: %q", got)
	}
}

func TestReaderRefusesWithPlaceAndCure(t *testing.T) {
	const good = "1,a,d,1,1,7,X\n"
	for _, c := range []struct{ name, text, place, problem, cure string }{
		{"empty file", "", "f.csv", "empty", "InvoiceNo,"},
		{"header only", header, "f.csv", "no lines", "order lines"},
		{"column missing", "InvoiceNo,StockCode,Description,Quantity,Price,CustomerID,Country\n" + good, "f.csv line 1", "UnitPrice", "first line"},
		{"no header", good, "f.csv line 1", "lacks InvoiceNo", "first line"},
		{"too few fields", header + good + "1,a,d,1\n", "f.csv line 3", "wrong number of fields", "as many fields"},
		{"too many fields", header + "1,a,d,e,1,1,7,X\n", "f.csv line 2", "wrong number of fields", "as many fields"},
		{"bare quote", header + "1,a,d\"e,1,1,7,X\n", "f.csv line 2", "quote", "double the quotes"},
		{"open quote", header + good + good + "1,a,\"d,1,1,7,X\n", "f.csv line 4", "quote", "close the quote"},
		{"quantity empty", header + "1,a,d,,1,7,X\n", "f.csv line 2", `"" is not a whole number`, "whole numbers"},
		{"quantity fraction", header + good + "1,a,d,1.0,1,7,X\n", "f.csv line 3", `"1.0"`, "whole numbers"},
		{"quantity beyond", header + "1,a,d,1000001,1,7,X\n", "f.csv line 2", "1000001 is beyond", "correct this line"},
		{"quantity overflow", header + "1,a,d,99999999999999999999,1,7,X\n", "f.csv line 2", "Quantity", "whole numbers"},
		{"price text", header + "1,a,d,1,free,7,X\n", "f.csv line 2", `UnitPrice: "free"`, "decimal pounds"},
		{"price beyond", header + "1,a,d,1,1000000.01,7,X\n", "f.csv line 2", "beyond 1000000.00", "correct this line"},
		{"amount beyond", header + "1,a,d,-1000000,41,7,X\n", "f.csv line 2", "beyond 40000000.00", "correct this line"},
		{"no invoice", header + ",a,d,1,1,7,X\n", "f.csv line 2", "invoice number is empty", "correct this line"},
		{"no stock code", header + "1,,d,1,1,7,X\n", "f.csv line 2", "stock code is empty", "correct this line"},
		{"long text", header + "1,a," + strings.Repeat("x", maxText) + ",1,1,7,X\n", "f.csv line 2", "longer than", "correct this line"},
		{"two customers", header + good + "1,b,d,1,1,8,X\n", "f.csv line 3", `"8" here and to "7" above`, "same customer"},
		{"customer then none", header + good + "1,b,d,1,1,,X\n", "f.csv line 3", `"" here`, "or none"},
		{"line after a long field", header + "1,a,\"d\ne\",1,1,7,X\n1,a,d,one,1,7,X\n", "f.csv line 4", `"one"`, "whole numbers"},
		{"half a gzip", zipped(t, header+strings.Repeat(good, 5000))[:60], "f.csv", "EOF", "complete CSV file"},
		{"gzip header only", "\x1f\x8b\x08", "f.csv", "EOF", "complete CSV file"},
	} {
		_, err := readText(c.text)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != problem.DecodeFailed {
			t.Errorf("%s: %v, want a %s", c.name, err, problem.DecodeFailed)
			continue
		}
		cause := p.Problem
		if p.Cause != nil {
			cause += p.Cause.Error()
		}
		if p.Place != c.place || !strings.Contains(cause, c.problem) || !strings.Contains(p.Cure, c.cure) {
			t.Errorf("%s: place %q, problem %q, cure %q", c.name, p.Place, cause, p.Cure)
		}
	}
}

func TestReaderStaysAtItsFirstError(t *testing.T) {
	reader, err := NewReader("f.csv", strings.NewReader(header+"1,a,d,one,1,7,X\n1,a,d,1,1,7,X\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, first := reader.Next()
	if _, second := reader.Next(); first == nil || second != first {
		t.Errorf("first %v, then %v", first, second)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lines.csv.gz")
	if err := os.WriteFile(path, embedded, 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := ReadFile(path)
	if err != nil || len(lines) != len(embeddedLines()) {
		t.Errorf("%d lines, %v", len(lines), err)
	}
	if _, err := ReadFile(path + ".missing"); problem.CodeOf(err) != problem.ConfigInvalid || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(header + "536365,85123A,\"A, B\",6,2.55,17850,United Kingdom\n"))
	f.Add([]byte(header + "C1,a,Voucher \xa3,-1,0.001,,X\r\n"))
	f.Add([]byte("\ufeff" + header + "\"\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		reader, err := NewReader("f.csv", bytes.NewReader(file))
		if err != nil {
			if problem.CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		lines, err := reader.ReadAll()
		if err != nil && problem.CodeOf(err) == "" {
			t.Fatalf("an error without a code: %v", err)
		}
		for i, line := range lines {
			if line.Number != i+1 || line.Validate() != nil {
				t.Fatalf("line %d: %+v: %v", i+1, line, line.Validate())
			}
		}
	})
}
