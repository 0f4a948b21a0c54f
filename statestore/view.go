package statestore

// View is one store of one task as the current transaction sees it.
type View struct{}
