import torch

from edgedetr.distill.imported import yolos
from edgedetr.distill.weights.importing import read_model


def test_its_level_holds_the_tokens_of_patches_row_by_row(foreign):
    model = read_model(foreign("yolos"))
    images, transformer = torch.rand(1, 3, 64, 96), model.network.get_submodule("vit")
    with torch.no_grad():
        tokens = transformer(images).last_hidden_state[0]
        (level,) = yolos.encode(model.network, images).levels
    assert level.shape == (1, 32, 4, 6)
    torch.testing.assert_close(level[0, :, 1, 2], tokens[1 + 6 + 2])  # behind the class token
