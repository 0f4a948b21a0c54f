package cli

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// What stops a process may signal the process and its group: that is one wish, and no impatience.
func TestTwoSignalsAtOnceAreOneWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, ended := make(chan os.Signal), false
		go func() {
			awaitAnother(signals)
			ended = true
		}()
		signals <- os.Interrupt
		<-time.After(oneWish - time.Millisecond)
		signals <- os.Interrupt
		synctest.Wait()
		if ended {
			t.Error("a signal that came at once counts as another wish")
		}
		<-time.After(time.Millisecond)
		signals <- os.Interrupt
		synctest.Wait()
		if !ended {
			t.Error("a later one does not")
		}
	})
}
