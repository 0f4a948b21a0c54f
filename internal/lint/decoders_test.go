package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// decoders are the functions that read bytes, each with the fuzz target of its package or, in words, why it has none. The key is
// the room and the name; the root is ".".
var decoders = map[string]string{
	"./ParseSyncAssignment":              "FuzzSyncAssignment",
	"cli/UnmarshalJSON":                  "FuzzRecordsGoThroughJSON",
	"cli/parseBytes":                     "a setting, by a person",
	"dedup/DecodeMarker":                 "FuzzDecodeMarker",
	"dedup/decodeOutputs":                "FuzzDecodeMarker",
	"dedup/parseUUID":                    "FuzzIssueTimes",
	"internal/assignment/DecodeNote":     "FuzzDecodeNote",
	"internal/assignment/DecodeUserData": "FuzzDecodeUserData",
	"internal/dedupstage/ParseID":        "FuzzParseID",
	"internal/dedupstage/Decode":         "any bytes are a value",
	"internal/embedded/parseBatch":       "FuzzBatch",
	"internal/embedded/readFrames":       "FuzzJournal",
	"internal/graph/DecodeFingerprint":   "FuzzDecodeFingerprint",
	"internal/graph/UnmarshalJSON":       "FuzzDecodeFingerprint",
	"internal/memnet/parse":              "an address, by a test",
	"internal/proof/parse":               "a command of the job of the proofs",
	"internal/task/DecodeMetadata":       "FuzzDecodeMetadata",
	"internal/task/ReadParked":           "FuzzReadEntries",
	"internal/task/ReadTimerKey":         "FuzzReadEntries",
	"internal/task/decodeParked":         "FuzzDecodeParked",
	"internal/task/decodeTimer":          "FuzzDecodeTimer",
	"internal/verify/parsePosition":      "FuzzParsePosition",
	"internal/verify/ParseSample":        "a setting, by a person",
	"internal/verify/parseCause":         "FuzzParsePosition",
	"internal/verify/parseSpot":          "FuzzParsePosition",
	"internal/verify/readMarkerPlace":    "a temporary file of the same run",
	"internal/verify/readParkedPlace":    "a temporary file of the same run",
	"internal/verify/readDescribed":      "a temporary file of the same run",
	"internal/verify/readNeeded":         "a temporary file of the same run",
	"serde/Decode":                       "FuzzJSON",
	"statestore/DecodeKey":               "it calls a serde",
	"statestore/decode":                  "it calls a serde",
	"statestore/decodeValue":             "it calls a serde",
	"statestore/DecodeCheckpoint":        "FuzzDecodeCheckpoint",
	"statestore/DecodePosition":          "FuzzDecodePosition",
	"statestore/decodeTaskRecord":        "FuzzDecodeTaskRecord",
}

// alsoFuzzed are targets of what reads files and readers.
var alsoFuzzed = map[string][]string{
	".":                 {"FuzzIdentityFile"},
	"cli/lines":         {"FuzzFieldsAreThoseOfEncodingCSV"},
	"internal/embedded": {"FuzzJournal"},
	"serde":             {"FuzzString", "FuzzBytes", "FuzzInt32", "FuzzInt64", "FuzzFloat64", "FuzzBool", "FuzzUUID", "FuzzNullable", "FuzzJSON", "FuzzProtobuf"},
	"streamtest":        {"FuzzRecord"},
}

// Rooms whose functions read nothing that is durable or comes over a wire.
var unfuzzed = regexp.MustCompile(`^(benchmarks|examples|kafkatest|mutants|model|internal/testsummary|internal/fuzzall|internal/proof/.+)(/|$)`)

var reads = regexp.MustCompile(`^([Dd]ecode|[Uu]nmarshal|[Pp]arse)|^[Rr]ead[A-Z]`)

// Whoever writes a function that takes durable bytes or bytes from a wire apart writes its fuzz target, or says why not.
func TestEveryDecoderIsFuzzed(t *testing.T) {
	targets, found := map[string]bool{}, map[string]bool{}
	eachFile(t, func(path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		room, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		room = filepath.ToSlash(room)
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			switch {
			case !ok:
			case strings.HasSuffix(path, "_test.go"):
				if strings.HasPrefix(f.Name.Name, "Fuzz") {
					targets[room+"/"+f.Name.Name] = true
				}
			case decodes(f) && !unfuzzed.MatchString(room):
				found[room+"/"+f.Name.Name] = true
			}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(found)) {
		by, listed := decoders[name]
		if !listed {
			t.Errorf("%s takes bytes apart and is not in the list of decoders: write a fuzz target, or say why it needs none", name)
		} else if room, _ := filepath.Split(name); strings.HasPrefix(by, "Fuzz") && !targets[room+by] {
			t.Errorf("%s: there is no %s", name, by)
		}
	}
	for name := range decoders {
		if !found[name] {
			t.Errorf("the list names %s, which does not exist", name)
		}
	}
	for room, names := range alsoFuzzed {
		for _, name := range names {
			if !targets[room+"/"+name] {
				t.Errorf("%s: there is no %s", room, name)
			}
		}
	}
}

// decodes says that a function's name is that of a decoder, and that it takes bytes or a text.
func decodes(f *ast.FuncDecl) bool {
	if !reads.MatchString(f.Name.Name) || f.Type.Results == nil {
		return false
	}
	reader := strings.HasPrefix(strings.ToLower(f.Name.Name), "read")
	return slices.ContainsFunc(f.Type.Params.List, func(p *ast.Field) bool {
		switch x := p.Type.(type) {
		case *ast.ArrayType:
			element, ok := x.Elt.(*ast.Ident)
			return ok && element.Name == "byte" && x.Len == nil
		case *ast.Ident:
			return x.Name == "string" && !reader // what is read by a name is a file or a topic
		}
		return false
	})
}

func TestADecoderIsRecognized(t *testing.T) {
	for source, want := range map[string]bool{
		"func decodeX(b []byte) error { return nil }":                  true,
		"func (x *X) UnmarshalJSON(text []byte) error { return nil }":  true,
		"func parseX(s string) (int, bool) { return 0, false }":        true,
		"func ReadX(key, value []byte) (X, error) { return X{}, nil }": true,
		"func readX(path string) error { return nil }":                 false,
		"func encodeX(b []byte) []byte { return b }":                   false,
		"func readX(ctx context.Context) error { return nil }":         false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "a.go", "package p\n"+source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := decodes(file.Decls[0].(*ast.FuncDecl)); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
}
