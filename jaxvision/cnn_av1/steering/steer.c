/* Narrows libaom's partition search by a table of allowed types, counts it, and logs its costs.
 * Linked with libaom's static library by `ld --wrap`: six functions that libaom calls from one of
 * its object files into another come by here first. libaom itself stays as it is.
 *   av1_rd_pick_partition                  for every superblock: its search begins and ends
 *   av1_prune_partitions_by_max_min_bsize  for every node, before it is searched: masks apply here
 *   av1_restore_context                    after every type that was tried: costs are read here
 *   av1_prune_ab_partitions                between the basic types and the AB types
 *   av1_ml_prune_4_partition               between those and the four-way types
 *   av1_rd_pick_intra_mode_sb              for every block of a key frame: counted, or refused
 * Positions count 4 pixels. Several threads may search at once.
 */
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include "state.h"

struct Record {                                  /* a searched node, as Python reads it */
  int32_t frame, row, col, size, type, mask;     /* the best type or UNKNOWN; what was allowed */
  double cost[4], basic, final;                  /* NaN: not tried; infinity: given up, too dear */
};
struct Node {                                    /* of the path from the superblock to the search */
  struct State *state;
  int row, col, width, mask, children;
  const uint8_t *tree;                           /* its first byte is the best type so far */
  bool found;
  double split;                                  /* the best costs of the quarters so far */
  struct Record *record;
};

static const uint16_t *table;                    /* [4][rows8][cols8], levels 64, 32, 16, 8 */
static int rows8, cols8, frame;
static struct Record *records;
static int64_t capacity, logged, nodes, narrowed, insane, pixels;
static _Thread_local struct Node path[DEEPEST];
static _Thread_local int depth;
static _Thread_local double per_rate;            /* what a unit of rate adds to a cost */
#define COUNT(counter, n) __atomic_fetch_add(&(counter), (n), __ATOMIC_RELAXED)

void jaxvision_masks(const uint16_t *to, int rows, int cols) { table = to, rows8 = rows, cols8 = cols; }
void jaxvision_log(struct Record *to, int64_t most) { records = to, capacity = most, logged = 0; }
void jaxvision_frame(int number) { frame = number; }
void jaxvision_reset(void) { nodes = narrowed = insane = pixels = 0; }
void jaxvision_counters(int64_t *to) {
  const int64_t all[] = { nodes, narrowed, insane, pixels, logged, sizeof(struct State),
                          offsetof(struct State, terminate), sizeof(struct Record) };
  memcpy(to, all, sizeof all);
}

/* At the frame's edge types are forced, and 4:2:2 has not every shape: those are left alone. */
static int mask_of(const struct State *s) {
  const int level = s->width == 64 ? 0 : s->width == 32 ? 1 : s->width == 16 ? 2 : 3;
  const int row = s->row >> 1, col = s->col >> 1, types = s->width == 8 ? BASIC : EVERY;
  if (!table || s->width < 8 || s->width > 64 || row >= rows8 || col >= cols8) return EVERY;
  if (!s->has_rows || !s->has_cols || s->subsampled_x != s->subsampled_y) return EVERY;
  const int mask = table[((size_t)level * rows8 + row) * cols8 + col] & types;
  return mask ? mask : EVERY;
}

/* A mask narrows what libaom would search; where nothing would be left, the mask alone decides. */
static void narrow(struct State *s, int mask) {
  int own = s->none_allowed << NONE | s->do_split << SPLIT;
  if (s->do_rect && s->rect_allowed[0]) own |= ALL_HORZ & ~(s->prune_rect[0] << HORZ);
  if (s->do_rect && s->rect_allowed[1]) own |= ALL_VERT & ~(s->prune_rect[1] << VERT);
  own &= s->terminate ? 0 : s->width == 8 ? BASIC : EVERY;
  const int set = own & mask ? own & mask : mask;
  if (mask == EVERY || set == own) return;
  COUNT(narrowed, 1);
  s->terminate = 0, s->none_allowed = set >> NONE & 1, s->do_split = set >> SPLIT & 1;
  s->rect_allowed[0] = (set & ALL_HORZ) != 0, s->rect_allowed[1] = (set & ALL_VERT) != 0;
  s->do_rect = s->rect_allowed[0] || s->rect_allowed[1];
  s->prune_rect[0] = !(set >> HORZ & 1), s->prune_rect[1] = !(set >> VERT & 1);
}

static double known(int64_t c) { return !c ? NAN : c == INT64_MAX ? INFINITY : c; }
static double both(const int64_t *c) { return c[0] && !c[1] ? INFINITY : known(c[0]) + known(c[1]); }

/* Reads the costs found so far of the node at the end of the path. */
static void read_costs(struct Node *n) {
  const struct State *s = n->state;
  const struct Cost *c = &s->this_cost;
  if (c->rate > 0 && c->total < INT64_MAX) per_rate = (c->total - 128.0 * c->distortion) / c->rate;
  n->found = s->found;
  if (!n->record) return;
  const double split = n->children == 4 ? n->split : n->children ? INFINITY : NAN;
  const double costs[] = { known(s->none), both(s->halves[0]), both(s->halves[1]), split };
  for (int i = 0; i < 4; i++) n->record->cost[i] = costs[i] + s->rates[i] * per_rate;
  if (n->tree && n->found) n->record->type = n->tree[0];
}

/* Shortens the path. What a node's parent was given last is the node's own best cost. */
static void leave(int to) {
  for (; depth > to; depth--) {
    struct Node *n = &path[depth - 1], *parent = n - 1;
    if (depth == 1 || depth - 1 > to) continue;  /* a superblock, or of a parent that ended too */
    const int64_t best = n->found ? parent->state->this_cost.total : INT64_MAX;
    parent->children++, parent->split += known(best);
    if (n->record && best < INT64_MAX) n->record->final = best;
  }
}

static struct Node *at(int row, int col, int width) {
  for (struct Node *n = path; n < path + depth; n++)
    if (n->width == width && n->row == row && n->col == col) return n;
  return NULL;
}

void __real_av1_prune_partitions_by_max_min_bsize(void *, struct State *);
void __wrap_av1_prune_partitions_by_max_min_bsize(void *superblock, struct State *s) {
  __real_av1_prune_partitions_by_max_min_bsize(superblock, s);
  COUNT(nodes, 1);
  if (!sane(s)) { COUNT(insane, 1); return; }
  struct Node *n = at(s->row, s->col, s->width);
  if (n && n->state == s) {                      /* nothing allowed fitted: now as libaom likes */
    leave(n - path + 1);
    n->mask = EVERY, n->children = 0, n->split = 0;
    return;
  }
  for (n = path; n < path + depth && n->width > s->width;) n++;
  leave(n - path);
  depth++;
  *n = (struct Node){ s, s->row, s->col, s->width, mask_of(s), 0, NULL, false, 0, NULL };
  narrow(s, n->mask);
  if (!records || s->width < 8 || !s->has_rows || !s->has_cols) return;
  const int64_t i = COUNT(logged, 1);
  if (i >= capacity) return;
  n->record = &records[i];
  records[i] = (struct Record){ frame, s->row, s->col, s->width, UNKNOWN, n->mask,
                               { NAN, NAN, NAN, NAN }, NAN, NAN };
}

/* Whether libaom may judge extended types: it does by the costs of all the basic ones. */
static bool judged(const struct Node *n) { return (n->mask & BASIC) == BASIC; }

void __real_av1_prune_ab_partitions(void *, void *, const uint8_t *, int, int64_t, void *, bool,
                                    struct State *, int *);
void __wrap_av1_prune_ab_partitions(void *encoder, void *block, const uint8_t *tree, int variance,
                                    int64_t best, void *wins, bool may, struct State *s, int *ab) {
  struct Node *n = at(s->row, s->col, s->width);
  if (n && n->state == s) {
    n->tree = tree, leave(n - path + 1), read_costs(n);
    if (n->record) n->record->basic = known(best);
  }
  __real_av1_prune_ab_partitions(encoder, block, tree, variance, best, wins, may, s, ab);
  if (!n || n->state != s || n->mask == EVERY) return;
  for (int i = 0; i < 4; i++)
    ab[i] = n->mask >> (HORZ_A + i) & 1 && (judged(n) ? ab[i] : may && s->rect_allowed[i / 2]);
}

void __real_av1_ml_prune_4_partition(void *, void *, int, int64_t, struct State *, int *, unsigned);
void __wrap_av1_ml_prune_4_partition(void *encoder, void *block, int type, int64_t best,
                                     struct State *s, int *four, unsigned variance) {
  const struct Node *n = at(s->row, s->col, s->width);
  if (!n || n->state != s || judged(n))
    __real_av1_ml_prune_4_partition(encoder, block, type, best, s, four, variance);
}

void __real_av1_restore_context(void *, void *, int, int, uint8_t, int);
void __wrap_av1_restore_context(void *block, void *saved, int row, int col, uint8_t size, int planes) {
  struct Node *n = records && size < 16 && size % 3 == 0 ? at(row, col, 4 << size / 3) : NULL;
  if (n) leave(n - path + 1), read_costs(n);
  __real_av1_restore_context(block, saved, row, col, size, planes);
}

bool __real_av1_rd_pick_partition(void *, void *, void *, void *, int, int, uint8_t, struct Cost *,
                                  struct Cost, void *, void *, void *, int, void *);
bool __wrap_av1_rd_pick_partition(void *encoder, void *thread, void *tile, void *tokens, int row,
                                  int col, uint8_t size, struct Cost *cost, struct Cost most,
                                  void *tree, void *motion, void *none, int pass, void *wins) {
  depth = 0;
  const bool found = __real_av1_rd_pick_partition(encoder, thread, tile, tokens, row, col, size,
                                                  cost, most, tree, motion, none, pass, wins);
  if (depth && path[0].record) path[0].record->final = known(cost->total);
  depth = 0;
  return found;
}

/* Which four-way types are tried is decided where no call leaves libaom: their blocks are refused. */
static bool refused(int size) {
  const struct Node *n = depth ? &path[depth - 1] : NULL;
  const int type = size & 1 ? HORZ_4 : VERT_4;   /* 16 to 21: 4×16, 16×4, 8×32, 32×8, 16×64, 64×16 */
  return n && size >= 16 && n->width == 16 << (size - 16) / 2 && !(n->mask >> type & 1);
}

void __real_av1_rd_pick_intra_mode_sb(void *, void *, struct Cost *, uint8_t, void *, int64_t);
void __wrap_av1_rd_pick_intra_mode_sb(void *encoder, void *block, struct Cost *cost, uint8_t size,
                                      void *context, int64_t most) {
  static const uint16_t areas[] = { 1, 2, 2, 4, 8, 8, 16, 32, 32, 64, 128, 128, 256, 512, 512, 1024,
                                    4, 4, 16, 16, 64, 64 };  /* by the number of the size */
  if (refused(size)) {                           /* as libaom says of what is too dear */
    *cost = (struct Cost){ INT_MAX, 0, INT64_MAX, INT64_MAX, INT64_MAX, 0 };
    return;
  }
  COUNT(pixels, size < 22 ? 16 * areas[size] : 0);
  __real_av1_rd_pick_intra_mode_sb(encoder, block, cost, size, context, most);
}
