# %% [markdown]
# # Notation and glossary
#
# | | |
# | --- | --- |
# | Time | to look things up |
# | Memory | none: there is nothing to run |
# | Needs | nothing |
#
# The same letters stand in formulas, docstrings, Numba, CUDA, tooltips, and at the end of variable names:
# `weights_BL` is a tensor of shape (B, L).
#
# ## Letters
#
# | letter | means | typical value |
# | --- | --- | --- |
# | $B$ | images in a batch | 2 |
# | $L$ | levels of the pyramid, fine to coarse | 5 (P3 to P7), 4 in Deformable DETR |
# | $H$, $W$ | height, width of a map | 100, 167 at P3 of an 800 x 1333 image |
# | $S$ | positions of a map, $S = H W$ | 16,700 |
# | $C$ | channels | 256 |
# | $K$ | taps of a kernel | 9 |
# | $G$ | offset groups of a convolution | 1 |
# | $Q$ | queries | 300 |
# | $M$ | heads | 8 |
# | $P$ | points per head and level | 4 |
# | $D$ | channels per head, $D = C / M$ | 32 |
# | $N$ | tokens: positions of all levels together | 22,223 in Deformable DETR |
# | $T$ | tokens that are kept | $\rho N$ |
# | $I$ | blocks of a Dynamic Head | 6 |
#
# ## Index of symbols
#
# | symbol | means | chapter |
# | --- | --- | --- |
# | $F$ | features $(L, S, C)$ that Dynamic Head attends over | 07 |
# | $\pi_L$, $\pi_S$, $\pi_C$ | scale-, spatial-, task-aware attention | 02, 05, 06 |
# | $\sigma$ | the hard sigmoid of the paper | 02 |
# | $f$ | the linear map of the level means | 02 |
# | $r_l$ | scale ratio of a level | 02, 15 |
# | $w_{l,k}$ | weight of level $l$ and tap $k$ | 05 |
# | $p_0$, $p_k$ | output position, grid position of tap $k$ | 03 |
# | $\Delta p_k$ | learned offset of a tap | 03 |
# | $\Delta m_k$ | learned mask of a tap, in $[0, 1]$ | 03 |
# | $G(q, p)$ | bilinear kernel | 03 |
# | $\alpha^1, \beta^1, \alpha^2, \beta^2$ | slopes and intercepts of the task-aware activation | 06 |
# | $\theta$ | the network that computes them | 06 |
# | $z_q$ | content of a query | 09 |
# | $p_q$, $\hat p_q$ | reference point; normalised to $[0, 1]$ | 09, 10 |
# | $\phi_l$ | stretches a normalised point to level $l$ | 10 |
# | $A_{mlqk}$ | attention weight | 09, 10 |
# | $U_m$, $V_m$, $W_m$, $W'_m$ | query, key, output and value projections | 09 |
# | $\hat b_q^{\,d}$ | box of a query after decoder layer $d$ | 11 |
# | $\rho$ | keeping ratio | 12 |
# | $\Omega_s^\rho$ | the tokens that are kept | 12 |
# | $\Omega_D$ | the tokens that the decoder refers to | 12 |
# | $\mathrm{DAM}$ | decoder attention map | 12 |
# | $g$ | scoring network of Sparse DETR | 12 |
#
# Boxes are $(x_1, y_1, x_2, y_2)$ in pixels unless a name says `_cxcywh` or `_norm`. Offsets are $(dy, dx)$ per tap
# in the convolution and $(x, y)$ in deformable attention, as in the published code of both.
#
# ## Glossary
#
# | English | 한국어 | 中文 | meaning |
# | --- | --- | --- | --- |
# | anchor | 앵커 | 锚框 | a box of fixed size at a position, which a detector corrects |
# | attention | 어텐션 | 注意力 | weights that depend on the input and say what counts |
# | attention head | 어텐션 헤드 | 注意力头 | one of several attentions side by side, each on a part of the channels |
# | average precision (AP) | 평균 정밀도 | 平均精度 | area under precision over recall, averaged over IoU thresholds |
# | backbone | 백본 | 主干网络 | the network that turns the image into feature maps |
# | backward pass | 역전파 | 反向传播 | from the loss to the gradients |
# | bilinear interpolation | 양선형 보간 | 双线性插值 | a value between four pixels, by their shares |
# | bipartite matching | 이분 매칭 | 二分图匹配 | the cheapest one-to-one assignment of predictions to objects |
# | bounding box | 바운딩 박스 | 边界框 | the smallest upright rectangle around an object |
# | decoder | 디코더 | 解码器 | turns object queries into detections |
# | decoder attention map | 디코더 어텐션 맵 | 解码器注意力图 | how much attention each token receives from the decoder |
# | deformable convolution | 변형 가능한 합성곱 | 可变形卷积 | a convolution whose taps move by learned offsets |
# | dilated convolution | 팽창 합성곱 | 空洞卷积 | a convolution whose taps lie further apart |
# | encoder | 인코더 | 编码器 | refines the tokens of the image |
# | feature map | 특징 맵 | 特征图 | numbers per position, one channel for each kind |
# | feature pyramid (FPN) | 특징 피라미드 | 特征金字塔 | maps of several resolutions, all with strong features |
# | focal loss | 포컬 손실 | 焦点损失 | cross-entropy that counts easy examples less |
# | ground truth | 정답 | 真实标注 | what the annotators drew |
# | head (of a detector) | 헤드 | 检测头 | the part that turns features into classes and boxes |
# | intersection over union (IoU) | 교집합/합집합 비율 | 交并比 | overlap of two boxes |
# | keeping ratio | 유지 비율 | 保留比例 | share of tokens that Sparse DETR refines |
# | kernel (of a convolution) | 커널 | 卷积核 | its weights |
# | kernel (of a GPU) | 커널 | 核函数 | a function that many threads run |
# | mask (modulation) | 변조 마스크 | 调制标量 | how much a tap counts |
# | non-maximum suppression (NMS) | 비최대 억제 | 非极大值抑制 | drops boxes that overlap a better one |
# | object query | 객체 쿼리 | 目标查询 | a slot of the decoder that may become a detection |
# | offset | 오프셋 | 偏移量 | how far a sampling point moves |
# | one-stage, two-stage detector | 1단계, 2단계 검출기 | 单阶段、两阶段检测器 | predicts at once; proposes first, then refines |
# | reference point | 기준점 | 参考点 | where a query's sampling points start |
# | region proposal | 영역 제안 | 候选区域 | a box that may hold an object |
# | sampling point | 샘플링 포인트 | 采样点 | a position that a deformable layer reads |
# | scale-aware attention | 스케일 인지 어텐션 | 尺度感知注意力 | weighs levels |
# | self-attention | 셀프 어텐션 | 自注意力 | tokens attend to each other |
# | spatial-aware attention | 공간 인지 어텐션 | 空间感知注意力 | chooses positions |
# | task-aware attention | 태스크 인지 어텐션 | 任务感知注意力 | chooses an activation per channel |
# | token | 토큰 | 词元 | one position of a map as a vector |
# | top-k selection | 상위 k개 선택 | 前k选择 | keeps the k best |
