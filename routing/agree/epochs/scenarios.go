package main

// sequences returns all sequences of fleets with the given numbers of epochs and backends. The first fleet
// sends the bucket to x.
func sequences(epochs int, backends backend) []scenario {
	all := []scenario{{}}
	for e := 1; e <= epochs; e++ {
		var longer []scenario
		for _, s := range all {
			for b := x; b <= backends; b++ {
				if e == 1 && b != x {
					continue
				}
				for o := none; o <= backends; o++ {
					s.bucket[e], s.override[e] = b, o
					longer = append(longer, s)
				}
			}
		}
		all = longer
	}
	return all
}

// telling are the sequences that show most: the bucket moves and comes back; an override is added, removed
// and changed while the bucket moves.
var telling = []scenario{
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: x}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{1: y}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{2: x}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: y, 3: y}, override: [maxEpochs + 1]backend{2: y}},
	{bucket: [maxEpochs + 1]backend{1: x, 2: x, 3: y}, override: [maxEpochs + 1]backend{1: x, 2: y}},
}
