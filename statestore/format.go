package statestore

// EncodeCheckpoint appends the bytes of a checkpoint record.
func EncodeCheckpoint(dst []byte, c *Checkpoint) []byte { panic("skeleton") }

// DecodeCheckpoint decodes a checkpoint record.
func DecodeCheckpoint(b []byte) (Checkpoint, error) { panic("skeleton") }

// EncodePosition appends the bytes of a position.
func EncodePosition(dst []byte, p *Position) []byte { panic("skeleton") }

// DecodePosition decodes a position.
func DecodePosition(b []byte) (Position, error) { panic("skeleton") }
