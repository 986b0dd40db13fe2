# %% [markdown]
# # Paper, released code, this book
#
# | | |
# | --- | --- |
# | Time | to look things up; a few seconds to run |
# | Memory | under 1 GB |
# | Needs | nothing |
#
# Papers leave things open, and released code does some things differently. Here is every difference that this book
# knows of, and what it does about each. "Parity" means: with the same weights the book computes what the
# released code computes. It is tested to 1e-4 on weights that were drawn at random. The last column leads to the chapter
# that speaks of it.
#
# Two questions help with any such table. Does a difference change what is *learned*, or only what loads? Weights that
# were trained with a quirk need it (`offset_fit="flat"`, `compat="sparse-detr"`), whatever would be right. And who
# measured the numbers? A paper's and its repository's often differ by half a point, and so do two repositories of one
# model: [chapter 08](08_dynamic_head_on_detectors.ipynb) has five numbers for one ATSS, each with its source. What a
# paper's tables say beyond those numbers is not repeated here from hearsay; read them there.
#
# The last part of the page turns from what the papers *do* to what they *claim*, and sets beside each claim what our own
# experiments say to it.
#
# ## Dynamic Head
#
# [Paper](https://arxiv.org/abs/2106.08322) (Dai et al., 2021),
# [released code](https://github.com/microsoft/DynamicHead) at commit 9c7cd66.
#
# | | paper | released code | this book | chapter |
# | --- | --- | --- | --- | --- |
# | order | scale, spatial, task | spatial, scale, task | `form="paper"` and `form="released"` | [07](07_dynamic_head.ipynb) |
# | tensor | all levels resized to the median one, $(L, S, C)$ | a pyramid; a level sees itself and its two neighbours | both | [07](07_dynamic_head.ipynb) |
# | scale gate | $\sigma(f(\text{means of all levels}))$ in $[0, 1]$ | each branch by its own weighted mean, ReLU before the hard sigmoid: $[0.5, 1]$ | both | [02](02_scale_aware.ipynb) |
# | mean over levels | $1/L$ | over the two or three branches that are present | both | [02](02_scale_aware.ipynb) |
# | stacking blocks | the spatial step removes the level axis, and yet six blocks are stacked | nothing to solve | `levels="residual"` adds the sum back to every level; `levels="collapse"` is the literal equation | [07](07_dynamic_head.ipynb) |
# | back to the pyramid | not said | nothing to solve | paper form: $x_l + \mathrm{resize}(y_l)$, a skip around the stack, without which nothing finer than the median level would come out | [07](07_dynamic_head.ipynb) |
# | weights of the convolution | a number per level and tap | three convolutions shared by all levels, with bias and GroupNorm | both; paper form with a $C \times C$ matrix per level and tap, or `depthwise=True` for the number | [05](05_spatial_aware.ipynb) |
# | offsets for the coarser neighbour | fit, because all levels have one size | taken as the first numbers of a map of another size | `offset_fit="flat"` for the released weights; `"centres"` (the default) and `"aligned"` are exact; also `"upsample"`, `"resize"` (what weights from before this edition were trained with; files that say nothing load with it), `"crop"` | [05](05_spatial_aware.ipynb) |
# | offsets for the finer neighbour | fit | as they are, so that they reach half as far, from half a fine cell beside the centre | as released; `offset_fit="aligned"`: $2d + \tfrac12$ | [05](05_spatial_aware.ipynb) |
# | enlarging the coarser result | levels are resized before | bilinear, corner on corner | as released; between centres with `"centres"` and `"aligned"` | [05](05_spatial_aware.ipynb) |
# | start of the offsets | not said (zero in deformable convolution) | not zero: the initialisation misses that layer | zero | [03](03_deformable_convolution.ipynb), [05](05_spatial_aware.ipynb) |
# | theta | mean over $L \times S$, normalisation, shifted sigmoid | mean of one level, hard sigmoid | both | [06](06_task_aware.ipynb) |
# | two-stage detectors | task-aware part after RoI pooling | all blocks before the proposals | `task_after_pooling` chooses | [08](08_dynamic_head_on_detectors.ipynb) |
# | towers behind the head | not said | none in ATSS; RetinaNet keeps its two towers of four | as the recipe says | [08](08_dynamic_head_on_detectors.ipynb) |
# | frozen layers | not said | nothing is frozen: stem and first stage train too | as the recipe says; released recipes train all | [08](08_dynamic_head_on_detectors.ipynb) |
# | images without objects | not said | ATSS stops with an error | work everywhere | [08](08_dynamic_head_on_detectors.ipynb) |
# | ablation switches | rows of a table | none; [GLIP's copy](https://github.com/microsoft/GLIP) has them | `scale=`, `spatial=`, `task=` | [07](07_dynamic_head.ipynb) |
# | extra cost of six blocks on ATSS | 21.5 GFLOPs | not said | counted: 21.7 GMAC | [07](07_dynamic_head.ipynb) |
#
# ## Deformable DETR
#
# [Paper](https://arxiv.org/abs/2010.04159) (Zhu et al., 2021),
# [released code](https://github.com/fundamentalvision/Deformable-DETR) at commit 11169a6.
#
# | | paper | released code | this book | chapter |
# | --- | --- | --- | --- | --- |
# | start of the offsets | head $m$ along its own direction, point $k$ lies $k$ cells away | the same | the same | [10](10_multi_scale_deformable_attention.ipynb) |
# | positions of tokens | sines and cosines, learned embedding per level | the same, counted inside the part that is not padding, from centres | as released | [09](09_self_attention_to_deformable.ipynb), [11](11_deformable_detr.ipynb) |
# | reference points on padded images | not said | scaled by the share of each level that is not padding | the same | [11](11_deformable_detr.ipynb) |
# | refinement from points | starts from a box 0.1 wide and high at the point | the first layer adds to $x, y$ only, its width and height are free | as released | [11](11_deformable_detr.ipynb) |
# | offsets around a box | times the size of the box; at the start divided by $2 P$ | times half the size over $P$, always | as released | [10](10_multi_scale_deformable_attention.ipynb) |
# | gradient between layers | blocked, in refinement | the new reference is detached | as released | [11](11_deformable_detr.ipynb) |
# | two-stage without refinement | built on refinement | stops with a TypeError | refused with a message | [11](11_deformable_detr.ipynb) |
# | score of a proposal | object or not | logit 0 of a head that has as many outputs as there are classes | as released | [11](11_deformable_detr.ipynb) |
# | precision of the operator | not said | float32 and float64 only | float16 and bfloat16 with float32 sums; offsets always in float32 | [10](10_multi_scale_deformable_attention.ipynb) |
# | classes | 80 | 91 logits: category ids are labels | any number; 91 for official weights | [13](13_training_on_coco.ipynb) |
# | divisor of the losses | objects of the batch | objects of the batch over all processes, at least 1 | as released; also where a batch comes in parts | [11](11_deformable_detr.ipynb), [13](13_training_on_coco.ipynb) |
#
# ## Sparse DETR
#
# [Paper](https://arxiv.org/abs/2111.14330) (Roh et al., 2022),
# [released code](https://github.com/kakaobrain/sparse-detr) at commit f40632c.
#
# | | paper | released code | this book | chapter |
# | --- | --- | --- | --- | --- |
# | decoder attention map | bilinear, as attention reads | spread without the half cell: shifted | right; `compat="sparse-detr"` for parity | [12](12_sparse_detr.ipynb) |
# | tokens that are kept | $\rho N$ | $\lfloor \rho N \rfloor + 1$ of the valid ones; a batch runs at its largest count | the same number per image; the rest of a batch is filling that changes nothing | [12](12_sparse_detr.ipynb) |
# | padding | not said | counts in the scorer's mean and in its loss | does not count; `compat` for parity | [12](12_sparse_detr.ipynb) |
# | Corr | over the kept tokens | over the largest count of the batch | over the kept tokens of each image; `compat` for parity | [12](12_sparse_detr.ipynb) |
# | refinement without two-stage | refines | the decoder's box heads are not connected: nothing is refined | refines; `compat` for parity | [12](12_sparse_detr.ipynb) |
# | content of a top-k query | the encoder's token (Efficient DETR) | the same, with its gradient | the same | [12](12_sparse_detr.ipynb) |
# | objectness score baseline | compared with | not released | `selection="objectness"` | [12](12_sparse_detr.ipynb) |
# | keeping ratio after training | another one at inference, under "dynamic sparsification" | an attribute | an argument: `rho` | [12](12_sparse_detr.ipynb) |
# | learning rate | not said | times the root of batch / 16 | 2e-4 at 16 images, as released; `--set lr=` for others | [13](13_training_on_coco.ipynb) |
#
# ## Deformable convolution
#
# Papers [v1](https://arxiv.org/abs/1703.06211) (Dai et al., 2017) and [v2](https://arxiv.org/abs/1811.11168) (Zhu et al.,
# 2019), [torchvision](https://github.com/pytorch/vision).
#
# | | paper | torchvision | this book | chapter |
# | --- | --- | --- | --- | --- |
# | gradient at whole positions | not said | follows the floor side | the same, tested | [03](03_deformable_convolution.ipynb) |
# | pixels outside | not said | each of the four corners counts as zero by itself | the same | [03](03_deformable_convolution.ipynb) |
# | bfloat16 | not said | none; float32 under autocast | native, float32 sums | [16](16_kernel_race.ipynb) |
# | two runs, the same gradients | not said | not on a GPU (atomic sums) | with `torch.use_deterministic_algorithms(True)` | [04](04_the_cuda_kernel.ipynb) |
#
# What later papers changed in all four is the subject of [chapter 22](22_later_work.ipynb).
#
# ## What the papers claim, and what was measured here
#
# A claim of a paper is true of the models, data and training that its authors had: large backbones, COCO, days of many
# GPUs. Our experiments are small, so they cannot refute it. What they can do is ask whether it also holds at a scale
# that you can repeat: small pictures, or drawn ones, with small models on one processor core. Where it does, you have a
# laboratory in which to look at the cause. Where it does not, the table says what ours was measured on, and what it
# would take to ask the paper's question.
#
# Nobody wrote the verdicts by hand; they follow from the recorded numbers by one rule. A difference is signed so that a
# positive one speaks for the claim. Rows of one seed see the same pictures in the same order, so the difference is taken
# seed by seed, and gets the interval in which the mean over ever more seeds lies with 95 % confidence. Above zero, the
# claim is **reproduced**; below zero, **refuted here**; if the interval holds zero, it is **undecided**. A single seed
# has no interval: it only points to a side. Where the claim is that nothing is lost, an interval that holds zero reads
# **no difference found**, which is not the same as none. `dyhead-lab experiment NAME --show` prints the whole record of
# each, and without `--show` it measures it again.
#
# ### Dynamic Head

# %% tags=["hide"]
from IPython.display import Markdown

from dyhead_book.c21_paper_code_book.claims import claims_table
from dyhead_book.c21_paper_code_book.paper_claims import DEFORMABLE_DETR, DYNAMIC_HEAD, SPARSE_DETR

Markdown(claims_table(DYNAMIC_HEAD))

# %% [markdown]
# ### DETR and Deformable DETR

# %% tags=["hide"]
Markdown(claims_table(DEFORMABLE_DETR))

# %% [markdown]
# ### Sparse DETR

# %% tags=["hide"]
Markdown(claims_table(SPARSE_DETR))

# %% [markdown]
# ## References
#
# ```bibtex
# @inproceedings{dai2021dynamic,
#   title     = {Dynamic Head: Unifying Object Detection Heads with Attentions},
#   author    = {Dai, Xiyang and Chen, Yinpeng and Xiao, Bin and Chen, Dongdong and Liu,
#                Mengchen and Yuan, Lu and Zhang, Lei},
#   booktitle = {CVPR}, year = {2021}
# }
# @inproceedings{zhu2021deformable,
#   title     = {Deformable DETR: Deformable Transformers for End-to-End Object
#                Detection},
#   author    = {Zhu, Xizhou and Su, Weijie and Lu, Lewei and Li, Bin and Wang, Xiaogang
#                and Dai, Jifeng},
#   booktitle = {ICLR}, year = {2021}
# }
# @inproceedings{roh2022sparse,
#   title     = {Sparse DETR: Efficient End-to-End Object Detection with Learnable
#                Sparsity},
#   author    = {Roh, Byungseok and Shin, JaeWoong and Shin, Wuhyun and Kim, Saehoon},
#   booktitle = {ICLR}, year = {2022}
# }
# @article{yao2021efficient,
#   title     = {Efficient DETR: Improving End-to-End Object Detector with Dense Prior},
#   author    = {Yao, Zhuyu and Ai, Jiangbo and Li, Boxun and Zhang, Chi},
#   journal   = {arXiv:2104.01318}, year = {2021}
# }
# @inproceedings{tian2019fcos,
#   title     = {FCOS: Fully Convolutional One-Stage Object Detection},
#   author    = {Tian, Zhi and Shen, Chunhua and Chen, Hao and He, Tong},
#   booktitle = {ICCV}, year = {2019}
# }
# @inproceedings{lin2017focal,
#   title     = {Focal Loss for Dense Object Detection},
#   author    = {Lin, Tsung-Yi and Goyal, Priya and Girshick, Ross and He, Kaiming and
#                Doll{\'a}r, Piotr},
#   booktitle = {ICCV}, year = {2017}
# }
# @inproceedings{rezatofighi2019generalized,
#   title     = {Generalized Intersection over Union: A Metric and A Loss for Bounding
#                Box Regression},
#   author    = {Rezatofighi, Hamid and Tsoi, Nathan and Gwak, JunYoung and Sadeghian,
#                Amir and Reid, Ian and Savarese, Silvio},
#   booktitle = {CVPR}, year = {2019}
# }
# @inproceedings{carion2020end,
#   title     = {End-to-End Object Detection with Transformers},
#   author    = {Carion, Nicolas and Massa, Francisco and Synnaeve, Gabriel and Usunier,
#                Nicolas and Kirillov, Alexander and Zagoruyko, Sergey},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{dai2017deformable,
#   title     = {Deformable Convolutional Networks},
#   author    = {Dai, Jifeng and Qi, Haozhi and Xiong, Yuwen and Li, Yi and Zhang,
#                Guodong and Hu, Han and Wei, Yichen},
#   booktitle = {ICCV}, year = {2017}
# }
# @inproceedings{zhu2019deformable,
#   title     = {Deformable ConvNets v2: More Deformable, Better Results},
#   author    = {Zhu, Xizhou and Hu, Han and Lin, Stephen and Dai, Jifeng},
#   booktitle = {CVPR}, year = {2019}
# }
# @inproceedings{lin2017feature,
#   title     = {Feature Pyramid Networks for Object Detection},
#   author    = {Lin, Tsung-Yi and Doll{\'a}r, Piotr and Girshick, Ross and He, Kaiming
#                and Hariharan, Bharath and Belongie, Serge},
#   booktitle = {CVPR}, year = {2017}
# }
# @inproceedings{zhang2020bridging,
#   title     = {Bridging the Gap Between Anchor-based and Anchor-free Detection via
#                Adaptive Training Sample Selection},
#   author    = {Zhang, Shifeng and Chi, Cheng and Yao, Yongqiang and Lei, Zhen and Li,
#                Stan Z.},
#   booktitle = {CVPR}, year = {2020}
# }
# @inproceedings{yang2019reppoints,
#   title     = {RepPoints: Point Set Representation for Object Detection},
#   author    = {Yang, Ze and Liu, Shaohui and Hu, Han and Wang, Liwei and Lin, Stephen},
#   booktitle = {ICCV}, year = {2019}
# }
# @inproceedings{qiu2020borderdet,
#   title     = {BorderDet: Border Feature for Dense Object Detection},
#   author    = {Qiu, Han and Ma, Yuchen and Li, Zeming and Liu, Songtao and Sun, Jian},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{chen2020dynamic,
#   title     = {Dynamic ReLU},
#   author    = {Chen, Yinpeng and Dai, Xiyang and Liu, Mengchen and Chen, Dongdong and
#                Yuan, Lu and Liu, Zicheng},
#   booktitle = {ECCV}, year = {2020}
# }
# @inproceedings{lin2014microsoft,
#   title     = {Microsoft COCO: Common Objects in Context},
#   author    = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James
#                and Perona, Pietro and Ramanan, Deva and Doll{\'a}r, Piotr and Zitnick,
#                C. Lawrence},
#   booktitle = {ECCV}, year = {2014}
# }
# @inproceedings{vaswani2017attention,
#   title     = {Attention Is All You Need},
#   author    = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob
#                and Jones, Llion and Gomez, Aidan N. and Kaiser, {\L}ukasz and
#                Polosukhin, Illia},
#   booktitle = {NeurIPS}, year = {2017}
# }
# @inproceedings{bolya2020tide,
#   title     = {TIDE: A General Toolbox for Identifying Object Detection Errors},
#   author    = {Bolya, Daniel and Foley, Sean and Hays, James and Hoffman, Judy},
#   booktitle = {ECCV}, year = {2020}
# }
# @article{williams2009roofline,
#   title     = {Roofline: An Insightful Visual Performance Model for Multicore
#                Architectures},
#   author    = {Williams, Samuel and Waterman, Andrew and Patterson, David},
#   journal   = {Communications of the ACM}, year = {2009}
# }
# ```
