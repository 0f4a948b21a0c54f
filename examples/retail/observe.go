package retail

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/oncemill/oncemill/record"
)

// Record shows the judge a record of one of the topics, as bytes. What cannot be decoded counts as a ghost. The error is
// about the call: a topic that is not among the ones that the judge knows.
func (j *Judge) Record(topics Topics, r *record.Raw) error {
	place, key := r.Position.String(), string(r.Key)
	switch r.Topic {
	case topics.Accepted:
		return observe(j, CheckLines, place, key, r.Value, j.Line)
	case topics.Gifts:
		return observe(j, CheckGifts, place, key, r.Value, j.Gift)
	case topics.Units:
		return observe(j, CheckUnits, place, key, r.Value, j.Units)
	case topics.DeadLetters:
		id, _ := r.Header(HeaderMessageID)
		j.DeadLetter(key, string(r.Value), string(id))
		return nil
	}
	return fmt.Errorf("retail: topic %q is none of the outputs", r.Topic)
}

// Entry shows the judge an entry of one of the stores, as bytes. What cannot be decoded counts as a ghost. The error is
// about the call: a store that the judge does not know.
func (j *Judge) Entry(store string, key, value []byte) error {
	place := fmt.Sprintf("store %s, key %q", store, key)
	switch store {
	case StoreOrders:
		return observe(j, CheckOrders, place, string(key), value, j.Order)
	case StoreAccounts:
		return observe(j, CheckAccounts, place, string(key), value, j.Account)
	case StoreProducts:
		return observe(j, CheckProducts, place, string(key), value, j.Product)
	}
	return fmt.Errorf("retail: no store is named %q", store)
}

// observe decodes strictly: a field that the type does not have is a content that the judge would not compare.
func observe[V any](j *Judge, check, place, key string, encoded []byte, show func(key string, value V)) error {
	var value V
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		return j.Unreadable(check, place, err)
	}
	if rest := encoded[decoder.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		return j.Unreadable(check, place, fmt.Errorf("%d bytes follow the value", len(rest)))
	}
	show(key, value)
	return nil
}
