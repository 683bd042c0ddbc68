"""Attacks, and the adversarial records that they leave.

Minimal attacks look for the smallest perturbation that changes the prediction: one run serves
each epsilon, by a filter on l_inf afterwards. Fixed attacks spend a given epsilon in full. All
run in float32 in [0, 1] pixel space against a `torch.nn.Module` that maps pixels to logits; a
defence is such a module too, so an attack that knows it attacks it directly (`adaptive`).

An image's result depends only on the image, the seed and the names of dataset and model, never on
the other images of its batch, provided that the model's logits do not depend on them either.
"""
