"""Folders that transformers saved: architectures that can be imported, at small widths, with useful weights.

Random weights say nearly the same of every query and every pixel. The heads are therefore brought to what trained ones
give: class logits of which some are sure, masks that differ from query to query and from place to place.
"""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    CLIPTokenizer,
    DetrConfig,
    DetrForSegmentation,
    DetrImageProcessorPil,
    EomtConfig,
    EomtForUniversalSegmentation,
    EomtImageProcessorPil,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    MaskFormerImageProcessorPil,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    OneFormerImageProcessorPil,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from vps_ros.taxonomies import ALL

SELDOM = 6.0
"""How far the mean of a mask's logits lies below one half; their deviation is about 5."""
STAGES = ["stage1", "stage2", "stage3", "stage4"]
QUERIES = 20
HEIGHT, WIDTH, SQUARE = 96, 160, 128
"""Of the networks' inputs; EoMT's is square."""


@contextmanager
def one_thread():
    """Layers this narrow take longer to share among threads than to compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _swin():
    return SwinConfig(
        embed_dim=12, depths=[2, 1, 1, 1], num_heads=[1, 2, 3, 4], window_size=7, image_size=64, out_features=STAGES
    )


def _labels(names):
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


def _named(taxonomy):
    return _labels([c.name for c in ALL[taxonomy].classes])


def mask2former():
    config = Mask2FormerConfig(
        backbone_config=_swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=48,
        dim_feedforward=48,
        encoder_layers=1,
        decoder_layers=4,
        num_attention_heads=4,
        num_queries=QUERIES,
        **_named("cityscapes"),
    )
    model = Mask2FormerForUniversalSegmentation(config).eval()
    inner = model.model
    pixels = inner.pixel_level_module.decoder.mask_projection
    masks = inner.transformer_module.decoder.mask_predictor.mask_embedder.layers[-1].layers[0]
    enliven(model, model.class_predictor, masks, pixels)
    return model, Mask2FormerImageProcessorPil(size={"height": HEIGHT, "width": WIDTH})


def maskformer():
    decoder = DetrConfig(
        backbone_config=_resnet(["stage4"]),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=QUERIES,
    )
    config = MaskFormerConfig(
        backbone_config=_swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        **_named("coco-panoptic"),
    )
    model = MaskFormerForInstanceSegmentation(config).eval()
    inner = model.model.transformer_module
    _part_queries(inner.queries_embedder, inner.decoder.layers)
    masks = model.mask_embedder.layers[-1].layers[0]
    pixels = model.model.pixel_level_module.decoder.mask_projection
    enliven(model, model.class_predictor, masks, pixels, seldom=2 * SELDOM)
    # Public checkpoints differ in this; with it, transformers' own forward fails outside of training.
    config.use_auxiliary_loss = True
    return model, MaskFormerImageProcessorPil(size={"height": HEIGHT, "width": WIDTH})


def _resnet(out):
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="bottleneck", out_features=out
    )


def detr():
    """COCO's classes at COCO's ids, as in the public checkpoints: 250 columns, of which stuff has no name."""
    coco = ALL["coco-panoptic"]
    names = [f"LABEL_{i}" for i in range(250)]
    for c in coco.classes:
        if c.isthing:
            names[c.id] = c.name
    config = DetrConfig(
        backbone_config=_resnet(STAGES),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=QUERIES,
        **_labels(names),
    )
    model = DetrForSegmentation(config).eval()
    _part_queries(model.detr.model.query_position_embeddings, model.detr.model.decoder.layers)
    with torch.no_grad():
        # What tells the masks of queries apart: where each of them looks.
        model.bbox_attention.q_proj.weight.mul_(5)
        model.mask_head.conv1.conv.weight[:, -8:].mul_(100)
    enliven(model, model.detr.class_labels_classifier)
    unused = sorted(set(range(250)) - set(coco.ids.tolist()))
    with torch.no_grad():
        model.detr.class_labels_classifier.bias[unused] -= 100
        _scale_masks_of_detr(model)
    return model, DetrImageProcessorPil(size={"height": HEIGHT, "width": WIDTH}, do_pad=False)


@torch.no_grad()
def _part_queries(queries, layers):
    """So that each of DETR's queries looks somewhere else, which random ones do not."""
    queries.weight.mul_(50)
    for layer in layers:
        layer.encoder_attn.q_proj.weight.mul_(30)
        layer.encoder_attn.v_proj.weight.mul_(3)


def _scale_masks_of_detr(model):
    found = model(**sample(HEIGHT, WIDTH))
    out = [m for m in model.mask_head.modules() if isinstance(m, nn.Conv2d)][-1]
    masks = found.pred_masks
    out.bias.sub_(masks.mean())
    factor = 5 / masks.std()
    out.weight.mul_(factor)
    out.bias.mul_(factor).sub_(SELDOM)


def eomt():
    config = EomtConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SQUARE,
        patch_size=16,
        num_queries=QUERIES,
        num_blocks=2,
        mlp_ratio=2,
        **_named("ade20k"),
    )
    model = EomtForUniversalSegmentation(config).eval()
    # As training leaves it: masked attention is annealed away.
    model.attn_mask_probs.zero_()
    enliven(model, model.class_predictor, model.mask_head.fc3, model.upscale_block.block[-1].layernorm2d, sure=8.0)
    size = {"shortest_edge": SQUARE, "longest_edge": SQUARE}
    return model, EomtImageProcessorPil(size=size, do_pad=True)


def oneformer():
    config = OneFormerConfig(
        backbone_config=_swin(),
        conv_dim=32,
        mask_dim=32,
        hidden_dim=32,
        encoder_feedforward_dim=48,
        dim_feedforward=48,
        encoder_layers=1,
        decoder_layers=4,
        num_attention_heads=4,
        num_queries=QUERIES,
        query_dec_layers=1,
        **_named("cityscapes"),
    )
    model = OneFormerForUniversalSegmentation(config).eval()
    inner = model.model
    decoder = inner.transformer_module.decoder
    with torch.no_grad():
        inner.transformer_module.queries_embedder.weight.mul_(100)
        for layer in decoder.layers:
            layer.cross_attn.multihead_attn.in_proj_weight[:32].mul_(10)
    masks = decoder.mask_embed.layers[-1].layers[0]
    enliven(model, decoder.class_embed, masks, inner.pixel_level_module.decoder.mask_projection)
    processor = OneFormerImageProcessorPil(size={"height": HEIGHT, "width": WIDTH})
    cityscapes = ALL["cityscapes"]
    names = [c.name for c in cityscapes.classes]
    things = [i for i, c in enumerate(cityscapes.classes) if c.isthing]
    processor.metadata = {**{str(i): n for i, n in enumerate(names)}, "class_names": names, "thing_ids": things}
    return model, processor


def segformer():
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
        **_named("cityscapes"),
    )
    model = SegformerForSemanticSegmentation(config).eval()
    _enliven_pixels(model, model.decode_head.classifier)
    return model, SegformerImageProcessorPil(size={"height": HEIGHT, "width": WIDTH})


def upernet():
    """Its public checkpoints have the image processor of SegFormer."""
    config = UperNetConfig(
        backbone_config=_swin(), hidden_size=32, auxiliary_in_channels=48, auxiliary_channels=8, **_named("ade20k")
    )
    model = UperNetForSemanticSegmentation(config).eval()
    _enliven_pixels(model, model.decode_head.classifier)
    return model, SegformerImageProcessorPil(size={"height": HEIGHT, "width": WIDTH})


@torch.no_grad()
def _enliven_pixels(model, classes):
    """Scales the last layer so that classes differ from place to place."""
    seen = []
    hook = classes.register_forward_hook(lambda _, inputs, output: seen.append(output))
    model(**sample(HEIGHT, WIDTH))
    hook.remove()
    _standardise(classes, seen[0].flatten(2)[0].T, 3.0)


def tokenizer():
    """A tokenizer of CLIP's kind with the letters and a few words."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{c}</w>" for c in letters), "th", "the</w>", "is</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={w: i for i, w in enumerate(words)}, merges=[("t", "h"), ("th", "e</w>"), ("i", "s</w>")]
    )


def sample(height, width):
    """Inputs of a model for one picture, normalised as the processors do."""
    x = (picture(height, width) / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD
    return {"pixel_values": torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32))}


def picture(height, width, seed=0):
    """uint8 [H, W, 3] with soft shades and sharp edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = 100 + 60 * np.sin(x / 17 + 1)[..., None] * np.cos(y / 11)[..., None] * rng.random(3)
    for _ in range(10):
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        image[top : top + rng.integers(8, height // 2), left : left + rng.integers(8, width // 2)] = rng.integers(
            0, 256, 3
        )
    return np.clip(image + rng.normal(size=image.shape) * 4, 0, 255).astype(np.uint8)


@torch.no_grad()
def enliven(model, classes, masks=None, pixels=None, sure=5.0, seldom=SELDOM):
    """Scales and shifts the last layers so that queries differ.

    Args:
        classes: the layer of the class logits; these get a deviation of `sure`.
        masks, pixels: the layers whose products are the mask logits; both get a mean of zero over queries and pixels,
            but for one channel that keeps most of every mask below one half, by `seldom` on average.
    """
    given = sample(SQUARE, SQUARE) if isinstance(model, EomtForUniversalSegmentation) else sample(HEIGHT, WIDTH)
    if isinstance(model, OneFormerForUniversalSegmentation):
        given["task_inputs"] = torch.ones(1, model.config.task_seq_len, dtype=torch.long)
    layers = {"classes": classes, "masks": masks, "pixels": pixels}
    # Masks steer the attention of the next layer, and so all that follows: the last round finds little to change.
    for _ in range(4):
        seen = {}
        hooks = [
            layer.register_forward_hook(lambda _, inputs, output, name=name, seen=seen: seen.update({name: output}))
            for name, layer in layers.items()
            if layer is not None
        ]
        model(**given)
        for hook in hooks:
            hook.remove()
        _standardise(classes, seen["classes"].flatten(0, 1), sure)
        if masks is not None:
            _standardise(masks, seen["masks"].flatten(0, 1), 0.9)
            _standardise(pixels, seen["pixels"].flatten(2)[0].T, 0.9)
            for layer, level in ((masks, -seldom), (pixels, 1)):
                layer.weight[0] = 0
                layer.bias[0] = level


def _standardise(layer, output, deviation):
    """So that `output` [samples, channels] of the layer has mean zero in each channel and a deviation over all."""
    factor = deviation / (output - output.mean(0)).std()
    layer.weight.mul_(factor)
    layer.bias.sub_(output.mean(0)).mul_(factor)


MODELS = {f.__name__: f for f in (mask2former, maskformer, detr, eomt, oneformer)}
PIXEL_MODELS = {f.__name__: f for f in (segformer, upernet)}


def save(name, folder, seed=0):
    """Writes a checkpoint as its makers do, and gives model and processor."""
    torch.manual_seed(seed)
    model, processor = (MODELS | PIXEL_MODELS)[name]()
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if name == "oneformer":
        tokenizer().save_pretrained(folder)
    return model, processor


def change(path, **entries):
    """Replaces entries of a JSON file; those given as None are taken out."""
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
