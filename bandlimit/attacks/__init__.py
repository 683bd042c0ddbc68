"""Attacks, and the adversarial records that they leave.

Minimal attacks look for the smallest perturbation that changes the prediction: one run serves
each epsilon, by a filter on l_inf afterwards. Fixed attacks spend a given epsilon in full. All
run in float32 in [0, 1] pixel space against a `torch.nn.Module` that maps pixels to logits; a
defence is such a module too, so whoever knows it attacks it (`adaptive`).

An image's result depends on the image, the seed and the names of dataset and model alone, never
on its companions, provided that the model's logits do not depend on them either.
"""
