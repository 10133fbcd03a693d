import numpy as np
import pytest
import torch

from strong import hard_images, training

LABELS = torch.zeros(9, dtype=torch.int64)


def logits(losses):
    """Logits of two classes with these losses for class 0."""
    p = np.exp(-np.asarray(losses, np.float64))
    return torch.tensor(np.stack([np.log(p), np.log1p(-p)], axis=1))


def test_the_easiest_are_left_out_once_and_then_come_back():
    selection = hard_images.Selection(9, skip=1 / 3, num_whole=1)
    assert selection.images().tolist() == list(range(9))
    selection.remember(np.arange(9), logits([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5]), LABELS)
    selection.next_epoch(2)
    assert selection.images().tolist() == [1, 3, 5, 6, 7, 8]
    order = np.array([8, 7, 6, 5, 3, 1])
    selection.remember(order, logits([0.1, 0.2, 0.9, 0.3, 0.4, 0.5]), LABELS[:6])
    selection.next_epoch(3)
    assert selection.images().tolist() == [0, 1, 2, 3, 4, 6]  # not the three that are now easiest
    assert selection.times_seen.tolist() == [1, 2, 1, 2, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("skip", [0.2, 1 / 3, 0.5])
def test_no_image_is_left_out_twice_in_a_row(skip, rng):
    selection = hard_images.Selection(100, skip, num_whole=2)
    was_in = np.ones(100, bool)
    for epoch in range(1, 12):
        is_in = np.isin(np.arange(100), selection.images())
        assert (
            is_in.sum() == selection.size(epoch) == (100 if epoch <= 2 else round(100 - 100 * skip))
        )
        assert (is_in | was_in).all()
        batch = rng.permutation(selection.images())
        losses = rng.exponential(size=len(batch)) + 0.01
        selection.remember(batch, logits(losses), torch.zeros(len(batch), dtype=torch.int64))
        selection.next_epoch(epoch + 1)
        was_in = is_in


def test_without_skipping_every_epoch_has_all_images():
    selection = hard_images.Selection(9)
    for epoch in (2, 3):
        selection.remember(np.arange(9), logits(np.full(9, 0.5)), LABELS)
        selection.next_epoch(epoch)
        assert selection.images().tolist() == list(range(9))
    assert selection.times_seen.tolist() == [2] * 9


def test_what_is_remembered_goes_into_a_checkpoint_and_comes_back():
    selection, other = (hard_images.Selection(9, skip=1 / 3) for _ in range(2))
    selection.remember(np.arange(9), logits(np.linspace(0.1, 0.9, 9)), LABELS)
    selection.next_epoch(2)
    state = selection.state_dict()
    other.load_state_dict(state)
    assert other.images().tolist() == [3, 4, 5, 6, 7, 8]
    other.remember(np.array([3, 4]), logits([0.5, 0.5]), LABELS[:2])
    assert selection.times_seen.tolist() == [1] * 9  # neither changes with the other


@pytest.mark.parametrize(("epochs", "num_whole"), [(1, 1), (2, 1), (8, 2), (12, 3)])
def test_a_quarter_of_the_epochs_of_the_stronger_network_is_whole(epochs, num_whole):
    selection = training.make_selection(training.Config(epochs=epochs), 90)
    sizes = [selection.size(epoch) for epoch in range(1, epochs + 1)]
    assert sizes == num_whole * [90] + (epochs - num_whole) * [60]


def test_a_run_trains_with_the_images_that_were_chosen(tiny_cifar, tmp_path, monkeypatch, capsys):
    numbers, progress = [], []
    places = {image.tobytes(): n for n, image in enumerate(tiny_cifar.train_x)}
    assert len(places) == 60

    def augmented(images, *_):
        numbers.extend(places[image.tobytes()] for image in images.numpy())
        return images

    def set_learning_rates(config, optimizers, peaks, share):
        progress.append(share)
        return 0.0

    monkeypatch.setattr(training, "augmented", augmented)
    monkeypatch.setattr(training, "set_learning_rates", set_learning_rates)
    options = {
        "save_dir": str(tmp_path),
        "device": "cpu",
        "threads": 1,
        "size": "small",
        "batch_size": 20,
    }
    training.run(training.Config(epochs=3, **options), tiny_cifar)
    second, third = set(numbers[60:100]), set(numbers[100:])
    assert sorted(numbers[:60]) == list(range(60))
    assert len(second) == len(third) == 40
    assert third > set(range(60)) - second
    np.testing.assert_allclose(progress, (np.arange(7) + 0.5) / 7)  # 3 + 2 + 2 steps
    assert capsys.readouterr().out.count("the 20 easiest images are left out of epoch") == 2
