package byhand

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
)

// fileName is the store's file in its directory.
const fileName = "retail.jsonl"

// change is what one message does to the store: one line of its file.
type change struct {
	ID      string          `json:"id"`
	Order   *retail.Order   `json:"order,omitempty"`
	Account *retail.Account `json:"account,omitempty"`
	Product *retail.Product `json:"product,omitempty"`
}

// Store is the state of the loop: maps, and a file with one line for each message, to which it appends. It remembers the
// ids of the messages in the same write as what they did, so a message changes the store once. It is not safe for use by
// several goroutines.
//
// What was written survives the death of the process, not that of the machine: the file is not synced.
type Store struct {
	file     *os.File
	done     map[string]bool
	orders   map[string]retail.Order
	accounts map[string]retail.Account
	products map[string]retail.Product
}

// Open opens the store in a directory, which is created if it does not exist, and reads it. A last line that broke off
// when the process died is cut off.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	path := filepath.Join(dir, fileName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	s := &Store{
		file: file, done: make(map[string]bool), orders: make(map[string]retail.Order),
		accounts: make(map[string]retail.Account), products: make(map[string]retail.Product),
	}
	if err := s.load(path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

func (s *Store) load(path string) error {
	lines := bufio.NewReaderSize(s.file, 64<<10)
	whole := int64(0)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what is left in line has no end: it was never whole
		}
		if err != nil {
			return problem.Wrap(problem.StoreIO, path, err)
		}
		var c change
		if err := json.Unmarshal(line, &c); err != nil {
			return problem.Wrap(problem.StoreCorrupt, fmt.Sprintf("%s at byte %d", path, whole), err).
				WithCure("delete the directory and the group's offsets, and start over")
		}
		s.take(c)
		whole += int64(len(line))
	}
	if err := s.file.Truncate(whole); err != nil {
		return problem.Wrap(problem.StoreIO, path, err)
	}
	if _, err := s.file.Seek(whole, io.SeekStart); err != nil {
		return problem.Wrap(problem.StoreIO, path, err)
	}
	return nil
}

// write appends the change to the file and then takes it over.
func (s *Store) write(c change) error {
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(c); err != nil { // ends with a newline
		return fmt.Errorf("encode the change of message %s: %w", c.ID, err)
	}
	if _, err := s.file.Write(line.Bytes()); err != nil {
		return problem.Wrap(problem.StoreIO, s.file.Name(), err)
	}
	s.take(c)
	return nil
}

func (s *Store) take(c change) {
	s.done[c.ID] = true
	if c.Order != nil {
		s.orders[c.Order.Invoice] = *c.Order
	}
	if c.Account != nil {
		s.accounts[c.Account.Customer] = *c.Account
	}
	if c.Product != nil {
		s.products[c.Product.StockCode] = *c.Product
	}
}

// Show shows the judge what the store holds.
func (s *Store) Show(j *retail.Judge) {
	for invoice, order := range s.orders {
		j.Order(invoice, order)
	}
	for customer, account := range s.accounts {
		j.Account(customer, account)
	}
	for stockCode, product := range s.products {
		j.Product(stockCode, product)
	}
}

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }
