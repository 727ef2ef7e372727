"""The paper's equations as plain loops over numpy arrays of one face (C, H, W): slow, independent.

Every function takes the weights of a module by the names of its state dict, and nothing else of it.
"""

import math

import numpy as np

EPS = 1e-5  # BatchNorm's


def conv(x, weight, *, stride=1, groups=1):
    """'Same' convolution, odd kernel: out[o, i, j] = sum over the window of weight * x."""
    out_channels, part, size, _ = weight.shape
    channels, height, width = x.shape
    pad = size // 2
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    out = np.zeros((out_channels, rows, columns))
    for o in range(out_channels):
        first = o // (out_channels // groups) * part
        for i in range(rows):
            for j in range(columns):
                for c in range(part):
                    for di in range(size):
                        for dj in range(size):
                            y, z = i * stride + di - pad, j * stride + dj - pad
                            if 0 <= y < height and 0 <= z < width:
                                out[o, i, j] += weight[o, c, di, dj] * x[first + c, y, z]
    return out


def batch_norm(x, w, name):
    mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    scale = w[f"{name}.weight"] / np.sqrt(variance + EPS)
    return np.stack([(x[c] - mean[c]) * scale[c] + w[f"{name}.bias"][c] for c in range(len(x))])


def prelu(x, slopes):
    return np.stack([np.where(x[c] > 0, x[c], slopes[c] * x[c]) for c in range(len(x))])


def dw_conv(x, w, name):
    """DWConv: depthwise convolution, BN, 1x1 convolution, BN, PReLU."""
    x = batch_norm(conv(x, w[f"{name}.0.weight"], groups=len(x)), w, f"{name}.1")
    x = batch_norm(conv(x, w[f"{name}.2.weight"]), w, f"{name}.3")
    return prelu(x, w[f"{name}.4.weight"])


def half(x):
    """Max-pooling by 2; an odd last row or column is left out."""
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2))
    for c in range(channels):
        for i in range(height // 2):
            for j in range(width // 2):
                out[c, i, j] = max(x[c, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1))
    return out


def enlarge(x, height, width):
    """Nearest neighbour."""
    out = np.zeros((len(x), height, width))
    for i in range(height):
        for j in range(width):
            out[:, i, j] = x[:, i * x.shape[1] // height, j * x.shape[2] // width]
    return out


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def f_m(x, w, name):
    """F_m of eqs 2 and 3, with the down- and upsampling of the text."""
    small = dw_conv(half(dw_conv(x, w, f"{name}.first")), w, f"{name}.second")
    return enlarge(small, *x.shape[1:])


def mlp(v, w, name):
    hidden = w[f"{name}.0.weight"] @ v + w.get(f"{name}.0.bias", 0)
    return w[f"{name}.2.weight"] @ np.maximum(hidden, 0) + w.get(f"{name}.2.bias", 0)


def average_and_maximum(x):
    """Over the positions of every channel: two vectors (C,)."""
    mean = [sum(channel.ravel()) / channel.size for channel in x]
    return np.array(mean), np.array([max(channel.ravel()) for channel in x])


def channel_gate(x, m_c):
    return np.stack([sigmoid(m_c[c]) * x[c] for c in range(len(x))])


def spatial_gate(x, m_s):
    return np.stack([sigmoid(m_s) * channel for channel in x])


def dcam(x, w, prefix=""):
    """Eq. 2: O_c and M_c."""
    average, maximum = average_and_maximum(f_m(x, w, f"{prefix}depthwise"))
    m_c = mlp(average, w, f"{prefix}mlp") + mlp(maximum, w, f"{prefix}mlp")
    return channel_gate(x, m_c), m_c


def dsam(x, w, prefix=""):
    """Eq. 3: O_s and M_s."""
    f = f_m(x, w, f"{prefix}depthwise")
    pooled = np.stack([sum(f) / len(f), np.maximum.reduce(list(f))])
    m_s = conv(pooled, w[f"{prefix}conv.weight"])
    return spatial_gate(x, m_s[0]), m_s


def dbam(x, w, prefix=""):
    x, m_c = dcam(x, w, f"{prefix}channel.")
    x, m_s = dsam(x, w, f"{prefix}spatial.")
    return x, m_c, m_s


def cbam(x, w, prefix=""):
    """Woo et al. 2018: channel attention, then spatial attention over (max, mean)."""
    average, maximum = average_and_maximum(x)
    m_c = mlp(average, w, f"{prefix}mlp") + mlp(maximum, w, f"{prefix}mlp")
    x = channel_gate(x, m_c)
    pooled = np.stack([np.maximum.reduce(list(x)), sum(x) / len(x)])
    m_s = batch_norm(conv(pooled, w[f"{prefix}conv.weight"]), w, f"{prefix}norm")
    return spatial_gate(x, m_s[0]), m_c, m_s


def mab(x, w, stride):
    """Eq. 1, with A-SKD's BN, conv, BN, PReLU, conv, BN before the attention."""
    f = conv(batch_norm(x, w, "convs.0"), w["convs.1.weight"])
    f = prelu(batch_norm(f, w, "convs.2"), w["convs.3.weight"])
    f = batch_norm(conv(f, w["convs.4.weight"], stride=stride), w, "convs.5")
    f, m_c, m_s = dbam(f, w, "attention.")
    if "shortcut.0.weight" in w:
        x = batch_norm(conv(x, w["shortcut.0.weight"], stride=stride), w, "shortcut.1")
    return f + x, m_c, m_s


def mcb(x, w, order):
    """Eqs 4-8."""
    f = prelu(batch_norm(conv(x, w["conv.0.weight"]), w, "conv.1"), w["conv.2.weight"])
    copied = conv(f, w["reduce.weight"])
    part = len(f) // 4
    branches = []
    for name, parts in (
        ("copy_convs", [copied, copied, copied, copied]),
        ("split_convs", [f[:part], f[part : 2 * part], f[2 * part : 3 * part], f[3 * part :]]),
    ):
        outputs = []
        for i in range(4):
            if i == 0:
                output = dw_conv(parts[0], w, f"{name}.0")
            elif order == "equation":
                output = dw_conv(outputs[i - 1], w, f"{name}.{i}") + parts[i]
            else:
                output = dw_conv(outputs[i - 1] + parts[i], w, f"{name}.{i}")
            outputs.append(output)
        branches.append(np.concatenate(outputs))
    return branches[0] + branches[1] + f


def cosine(a, b):
    a, b = a.ravel(), b.ravel()
    return sum(a * b) / (math.sqrt(sum(a * a)) * math.sqrt(sum(b * b)))


def kd_loss(student, teacher, reduction):
    """Eqs 9-11 of (channel maps, spatial maps), averaged over the faces of a batch."""
    blocks = []
    for c_s, s_s, c_t, s_t in zip(*student, *teacher, strict=True):
        faces = []
        for n in range(len(c_s)):
            similarity_c, similarity_s = cosine(c_t[n], c_s[n]), cosine(s_t[n], s_s[n])
            faces.append(((1 - similarity_c) + (1 - similarity_s)) / 2)
        blocks.append(sum(faces) / len(faces))
    return sum(blocks) if reduction == "sum" else sum(blocks) / len(blocks)
