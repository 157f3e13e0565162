package cyrus

import "github.com/kpopd/kpopd/mailstore"

var _ mailstore.EightBiter = (*maildrop)(nil)

// EightBit implements mailstore.EightBiter from what the one pass over each
// message has noted.
func (d *maildrop) EightBit() ([]mailstore.Number, error) {
	if err := d.measure(); err != nil || len(d.odd) == 0 {
		return nil, err
	}
	if err := d.wake(); err != nil {
		return nil, err
	}
	var list []mailstore.Number
	odd := d.odd
	for i, uid := range d.list.uids {
		for len(odd) > 0 && odd[0].uid < uid {
			odd = odd[1:]
		}
		if len(odd) > 0 && odd[0].uid == uid && odd[0].eightBit {
			list = append(list, mailstore.Number(i+1))
		}
	}
	return list, nil
}
