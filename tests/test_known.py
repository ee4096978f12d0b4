"""Preferences made so that the right answer is known: that it is, and that nothing else tells."""

import pytest

from workbench.errors import InputError
from workbench.train import known


def stated(text):
    return text.startswith(known.PLAIN)


def hedged(text):
    return text.startswith(known.HEDGED)


@pytest.mark.parametrize("right", [1.0, 0.75, 0.5, 0.0])
def test_exactly_the_share_asked_for_prefers_what_is_stated(bundled, right):
    pairs = known.plain_or_hedged(bundled, 80, right=right)
    assert all(stated(pair.chosen) != stated(pair.rejected) for pair in pairs)
    assert all(hedged(pair.chosen) != hedged(pair.rejected) for pair in pairs)
    assert sum(stated(pair.chosen) for pair in pairs) == round(right * 80)


def test_length_does_not_tell_which_is_stated(bundled):
    pairs = known.plain_or_hedged(bundled, 1700)
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in pairs)
    shorter = sum(len(pair.chosen) < len(pair.rejected) for pair in pairs)
    assert (longer, shorter) == (796, 851)  # said in the module


def test_the_same_texts_with_other_labels_and_no_pair_twice(bundled):
    clean, noise = (known.plain_or_hedged(bundled, 80, right=right) for right in (1.0, 0.5))
    both = lambda pairs: [(pair.prompt, frozenset((pair.chosen, pair.rejected))) for pair in pairs]
    openers = (*known.PLAIN, *known.HEDGED)
    assert len(set(both(clean))) == 80 and {pair.prompt for pair in clean} == {pair.prompt for pair in noise}
    assert all(text.startswith(openers) for pair in noise for text in (pair.chosen, pair.rejected))


def test_of_pairs_by_length_the_longer_is_chosen_and_all_come_from_one_page(bundled):
    pages = {document.id: document.text for document in bundled}
    for pair in known.longer(bundled, 200):
        assert len(pair.chosen) > len(pair.rejected)
        source = pair.provenance.source
        assert pages[source.document_id][source.start : source.end] in pair.chosen + pair.rejected


def test_the_same_seed_gives_the_same_pairs(bundled):
    assert known.plain_or_hedged(bundled, 40, seed=3) == known.plain_or_hedged(bundled, 40, seed=3)
    assert known.plain_or_hedged(bundled, 40, seed=3) != known.plain_or_hedged(bundled, 40, seed=4)


def test_more_pairs_than_there_are_and_shares_that_are_none_are_refused(bundled):
    with pytest.raises(InputError, match=r"these 39 documents have [\d,]+ pairs of sentences, and 100,000 are wanted"):
        known.plain_or_hedged(bundled, 100_000)
    with pytest.raises(InputError, match="right is a share"):
        known.plain_or_hedged(bundled, 10, right=1.5)
