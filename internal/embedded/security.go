package embedded

import (
	"crypto/tls"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Security says how clients are admitted.
type Security struct {
	// TLS is the server's configuration; nil: plain text.
	TLS *tls.Config
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: no SASL.
	Mechanism string
	User      string
	Password  string
}

func (s Security) options() []kfake.Opt {
	var opts []kfake.Opt
	if s.TLS != nil {
		opts = append(opts, kfake.TLS(s.TLS))
	}
	if s.Mechanism != "" {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser(s.Mechanism, s.User, s.Password))
	}
	return opts
}
