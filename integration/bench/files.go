package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kpopd/kpopd/integration/page"
)

// Write puts the report into a directory, as NAME.json and NAME.md.
func (r *Report) Write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: for everybody to read
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644),    //nolint:gosec // G306: as above
		os.WriteFile(filepath.Join(dir, name+".md"), []byte(r.Markdown()), 0o644)) //nolint:gosec // G306: as above
}

// Insert writes the tables into a document, between its marks.
func (r *Report) Insert(document string) error { return page.Insert(document, "bench", r.Markdown()) }

// kept are the ratios that a later run is held against, by scenario and figure.
type kept map[string]float64

// ratios are those of the report that do not swing with the weather: of time
// spent and of memory, not of percentiles.
func (r *Report) ratios() kept {
	out := kept{}
	for _, res := range r.Scenarios {
		for _, q := range res.Ratios {
			if q.Figure == string(cpuTime) || q.Figure == string(memory) {
				out[res.Name+"; "+q.Figure] = q.Ratio
			}
		}
	}
	return out
}

// A record has what is kept by the processor it was measured on: where system calls
// are most of the work, ratios differ from one to another by more than a regression.
type record map[string]kept

// of is what a processor is held to. One that nobody has measured on is held to the
// greatest of each ratio.
func (r record) of(processor string) kept {
	if own, known := r[processor]; known {
		return own
	}
	out := kept{}
	for _, ratios := range r {
		for name, ratio := range ratios {
			out[name] = max(out[name], ratio)
		}
	}
	return out
}

// tolerance is how much a ratio may grow before it is a regression.
const tolerance = 1.25

// Regressions compares the ratios with those kept in a file, and names those
// that have grown by more than a quarter. A file that is not there is made; renew
// replaces what it has of this processor.
func (r *Report) Regressions(path string, renew bool) ([]string, error) {
	before := record{}
	b, err := os.ReadFile(path) //nolint:gosec // G304: the caller's
	switch {
	case errors.Is(err, os.ErrNotExist):
		renew = true
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, &before); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", path, err)
		}
	}
	if !renew {
		return worse(before.of(r.Processor), r.ratios()), nil
	}
	before[r.Processor] = r.ratios()
	if b, err = json.MarshalIndent(before, "", "  "); err != nil {
		return nil, err
	}
	return nil, os.WriteFile(path, append(b, '\n'), 0o644) //nolint:gosec // G306: for everybody to read
}

func worse(before, now kept) (all []string) {
	for name, ratio := range now {
		if was, known := before[name]; known && ratio > was*tolerance {
			all = append(all, fmt.Sprintf("%s: %.3f, was %.3f", name, ratio, was))
		}
	}
	return all
}
