//go:build !windows

package oncemill_test

import (
	"errors"
	"syscall"
)

// becomeUser gives up the rights of this process for those of a user.
func becomeUser(id int) error {
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(id), syscall.Setuid(id))
}
