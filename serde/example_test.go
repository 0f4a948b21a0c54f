package serde_test

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/oncemill/oncemill/serde"
)

// show encodes v, decodes it again, and prints both.
func show[T any](s serde.Serde[T], v T) {
	b, err := s.Encode(nil, v)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := s.Decode(b)
	fmt.Printf("%s: % x -> %v %v\n", s.Name(), b, got, err)
}

func ExampleString() {
	show(serde.String(), "Zoë")
	// Output: string: 5a 6f c3 ab -> Zoë <nil>
}

func ExampleBytes() {
	show(serde.Bytes(), []byte{0, 255})
	fmt.Println(serde.IsNull(serde.Bytes(), nil), serde.IsNull(serde.Bytes(), []byte{}))
	// Output:
	// bytes: 00 ff -> [0 255] <nil>
	// true false
}

func ExampleInt32() {
	show(serde.Int32(), -2)
	_, err := serde.Int32().Decode([]byte("12345678"))
	fmt.Println(err)
	// Output:
	// int32: ff ff ff fe -> -2 <nil>
	// serde int32: expected length 4, got 8
}

func ExampleInt64() {
	show(serde.Int64(), 258)
	// Output: int64: 00 00 00 00 00 00 01 02 -> 258 <nil>
}

func ExampleFloat64() {
	show(serde.Float64(), -2.5)
	// Output: float64: c0 04 00 00 00 00 00 00 -> -2.5 <nil>
}

func ExampleBool() {
	show(serde.Bool(), true)
	// Output: bool: 01 -> true <nil>
}

func ExampleUUID() {
	b, err := serde.UUID().Encode(nil, uuid.MustParse("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"))
	fmt.Println(string(b), err)
	// Output: f81d4fae-7dec-11d0-a765-00a0c91e6bf6 <nil>
}

func ExampleJSON() {
	type order struct {
		ID    string `json:"id"`
		Cents int64  `json:"cents"`
	}
	orders := serde.JSON[order]()
	b, err := orders.Encode(nil, order{ID: "o-17", Cents: 1250})
	fmt.Println(string(b), err)
	got, err := orders.Decode([]byte(`{"cents": 1250, "id": "o-17", "added": true}`))
	fmt.Printf("%+v %v\n", got, err)
	// Output:
	// {"id":"o-17","cents":1250} <nil>
	// {ID:o-17 Cents:1250} <nil>
}

func ExampleProtobuf() {
	messages := serde.Protobuf[*wrapperspb.StringValue]()
	b, err := messages.Encode(nil, wrapperspb.String("hi"))
	fmt.Printf("%s: % x %v\n", messages.Name(), b, err)
	got, err := messages.Decode(b)
	fmt.Println(got.GetValue(), err)
	// Output:
	// protobuf(google.protobuf.StringValue): 0a 02 68 69 <nil>
	// hi <nil>
}

func ExampleNullable() {
	prices := serde.Nullable(serde.Int64())
	price, err := prices.Decode(nil)
	fmt.Println(price, serde.IsNull(prices, price), err)
	_, err = serde.Int64().Decode(nil)
	fmt.Println(err)
	// Output:
	// <nil> true <nil>
	// serde: null where the serde does not allow it (cure: wrap it in serde.Nullable)
}

func ExampleIsNull() {
	names := serde.Nullable(serde.String())
	empty := ""
	fmt.Println(serde.IsNull(names, nil), serde.IsNull(names, &empty), serde.IsNull(serde.String(), ""))
	// Output: true false false
}
